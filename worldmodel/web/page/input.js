/**
 * Keys, mouse, touch sticks and gamepads become one action a frame.
 *
 *     const input = new Input(stage, spec);   // stage: the element that is played in
 *     const taken = input.take();             // once a frame, at the last moment before it
 *     taken.buttons                           // the world's button codes that are held or were tapped
 *     taken.mouse                             // degrees right, degrees down
 *     taken.time                              // performance.now() of the oldest new event, or null
 *     input.release();                        // everything counts as released
 *     input.close();                          // no listener stays
 *
 * `spec` is what `world.toml` says under [actions]: `buttons` (KeyboardEvent.code, "Mouse0", ...),
 * `names`, `max_mouse_degrees` of each of `frames`, `look_left_right`, `look_up_down`. `settings` may
 * overrule SETTINGS.
 *
 * What the page may set:
 *
 *     input.onkey = (code, event) => true     // a key that is none of the world's; true: it was used
 *     input.onlock = (locked, reason) => {}   // the mouse is captured, or it is not, and why
 *     input.ontouch = () => {}                // the first touch: show the sticks
 *     input.listening = false                 // while a menu is open
 *
 *     await input.lock()                      // capture the mouse; call it from a click
 *     new Sticks(layer, input)                // two touch sticks and the other buttons, in `layer`
 *
 * Between two `take`s mouse travel adds up, and a button tapped and released still counts as held, so
 * no press is lost. The file imports nothing.
 */

export const SETTINGS = {
  degreesPerPixel: 0.15, // mouse
  turnDegrees: 6, // a frame, arrow keys
  lookDegrees: 8, // a frame, a stick fully out
  deadZone: 0.2, // of a stick's range
};

const WASD = ["KeyW", "KeyS", "KeyA", "KeyD"];
const ARROWS = ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"];
const DIRECTIONS = ["up", "down", "left", "right"];
const PAD_DIRECTIONS = [12, 13, 14, 15]; // buttons of the d-pad in the standard mapping
const PAD_PLACES = [7, 0, 2, 1, 5, 6, 3]; // for what is no direction, the best place first
const SIDE = Math.sin(Math.PI / 8); // a stick within 22.5 degrees of a direction has no other one
const TURNS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The world's buttons that are directions, and the others. */
export function hands(buttons) {
  const directions = [WASD, ARROWS].filter((hand) => hand.some((code) => buttons.includes(code)));
  const others = buttons.filter((code) => !directions.flat().includes(code));
  others.sort((a, b) => (a !== "Mouse0") - (b !== "Mouse0"));
  return { directions, others };
}

/** Of a stick at x, y: which of up, down, left, right, as one of eight directions. */
export function directionsOf(x, y, deadZone) {
  const length = Math.hypot(x, y);
  const found = new Set();
  if (length <= deadZone) return found;
  if (Math.abs(x) > SIDE * length) found.add(x > 0 ? "right" : "left");
  if (Math.abs(y) > SIDE * length) found.add(y > 0 ? "down" : "up");
  return found;
}

/** A stick's place without its dead zone, from 0 at the zone's edge to 1. */
export function beyondDeadZone(x, y, deadZone) {
  const length = Math.hypot(x, y);
  if (length <= deadZone) return [0, 0];
  const scale = Math.min(1, (length - deadZone) / (1 - deadZone)) / length;
  return [x * scale, y * scale];
}

/** Collects events; `take` hands over the frame's action and starts the next one. */
export class Input {
  constructor(stage, spec, settings = {}) {
    this.stage = stage;
    this.spec = spec;
    this.settings = { ...SETTINGS, ...settings };
    this.known = new Set(spec.buttons);
    this.listening = true;
    this.onkey = () => false;
    this.onlock = () => {};
    this.ontouch = () => {};
    this.held = new Map(); // source -> codes held by it: "keys", "mouse", "pad 0", "left stick", ...
    this.tapped = new Set(); // pressed since the last take
    this.looks = new Map(); // source -> [right, down] from -1 to 1
    this.travel = [0, 0]; // mouse, pixels
    this.time = null;
    this.dragging = null; // where the mouse is not captured: the pointer that turns the view
    this.refusals = 0; // of capturing the mouse, since it was captured last
    this.closing = new AbortController();
    this.listen();
  }

  /** Whether the mouse is captured. */
  get locked() {
    return document.pointerLockElement === this.stage;
  }

  /** Whether any mouse travel means something in this world. */
  get usesMouse() {
    return this.spec.look_left_right || this.spec.look_up_down;
  }

  /**
   * Whether the browser captures no mouse: then dragging looks, and clicks are clicks. One refusal
   * says nothing: browsers refuse for a second after Escape.
   */
  get cannotLock() {
    return this.refusals > 1;
  }

  /** Whether a click is a click in the world: not the one that captures the mouse. */
  get clicks() {
    return this.locked || this.cannotLock || !this.usesMouse;
  }

  /** The action of the frame that begins now. */
  take() {
    this.poll();
    const down = new Set(this.tapped);
    for (const codes of this.held.values()) for (const code of codes) down.add(code);
    const buttons = this.spec.buttons.filter((code) => down.has(code));
    const { degreesPerPixel, lookDegrees, turnDegrees } = this.settings;
    const mouse = this.travel.map((pixels) => pixels * degreesPerPixel);
    for (const look of this.looks.values()) {
      mouse[0] += look[0] * lookDegrees;
      mouse[1] += look[1] * lookDegrees;
    }
    for (const [code, direction] of Object.entries(TURNS)) {
      if (this.known.has(code) || !down.has(code)) continue;
      mouse[0] += direction[0] * turnDegrees;
      mouse[1] += direction[1] * turnDegrees;
    }
    const limit = this.spec.max_mouse_degrees * (this.spec.frames ?? 1); // of frames drawn together
    const held = mouse.map((degrees) => Math.min(limit, Math.max(-limit, degrees)));
    const taken = {
      buttons,
      mouse: [this.spec.look_left_right ? held[0] : 0, this.spec.look_up_down ? held[1] : 0],
      time: this.time,
    };
    this.tapped.clear();
    this.travel = [0, 0];
    this.time = null;
    return taken;
  }

  /** Everything counts as released: somebody else listens now, or nobody. */
  release() {
    this.held.clear();
    this.tapped.clear();
    this.looks.clear();
    this.travel = [0, 0];
    this.time = null;
    this.dragging = null;
  }

  /** What a source (a stick, a pad) holds now; what is new counts as tapped too. */
  hold(source, codes, time = performance.now()) {
    const before = this.held.get(source) ?? new Set();
    const now = new Set(codes);
    for (const code of now) if (!before.has(code)) this.tapped.add(code);
    if (now.size !== before.size || [...now].some((code) => !before.has(code))) this.stamp(time);
    if (now.size) this.held.set(source, now);
    else this.held.delete(source);
  }

  /** Where a source looks, from -1 to 1, right and down positive. */
  look(source, right, down, time = performance.now()) {
    const [x, y] = this.looks.get(source) ?? [0, 0];
    if (x === right && y === down) return;
    this.stamp(time);
    if (right || down) this.looks.set(source, [right, down]);
    else this.looks.delete(source);
  }

  /** Capture the mouse, without the system's acceleration where the browser can. */
  async lock() {
    if (!this.usesMouse || this.locked || !this.stage.requestPointerLock) return this.locked;
    try {
      await this.stage.requestPointerLock({ unadjustedMovement: true });
    } catch (error) {
      if (error.name !== "NotSupportedError") return this.refused(error);
      try {
        await this.stage.requestPointerLock();
      } catch (plain) {
        return this.refused(plain);
      }
    }
    return this.locked;
  }

  /** Let the mouse go. */
  unlock() {
    if (this.locked) document.exitPointerLock();
  }

  /** No listener stays; sticks are the page's to remove. */
  close() {
    this.closing.abort();
    this.unlock();
    this.release();
  }

  refused(error) {
    this.refusals += 1;
    if (this.refusals === 2) this.onlock(false, error.message || error.name);
    return false;
  }

  listen() {
    const options = { signal: this.closing.signal };
    const on = (target, kind, heard) => target.addEventListener(kind, heard, options);
    on(window, "keydown", (event) => this.keyDown(event));
    on(window, "keyup", (event) => this.keyUp(event));
    on(window, "blur", () => this.release());
    on(document, "visibilitychange", () => document.hidden && this.release());
    on(document, "pointerlockchange", () => {
      if (this.locked) this.refusals = 0;
      else this.release();
      this.onlock(this.locked, "");
    });
    on(document, "mousemove", (event) => this.move(event));
    on(this.stage, "pointerdown", (event) => this.pointerDown(event));
    on(window, "pointerup", (event) => this.pointerUp(event));
    on(window, "pointercancel", (event) => this.pointerUp(event));
    // The second button of a mouse that already holds one comes as no pointerdown.
    on(this.stage, "mousedown", (event) => this.clicks && this.mouseButton(event, true));
    on(window, "mouseup", (event) => this.mouseButton(event, false));
    on(this.stage, "contextmenu", (event) => event.preventDefault());
  }

  keyDown(event) {
    if (!this.listening || writes(event.target) || this.isShortcut(event)) return;
    const { code } = event;
    if (this.known.has(code) || this.turns(code)) {
      event.preventDefault();
      if (event.repeat) return;
      this.hold("keys", [...(this.held.get("keys") ?? []), code], event.timeStamp);
    } else if (!event.repeat && this.onkey(code, event)) {
      event.preventDefault();
    }
  }

  keyUp(event) {
    const keys = this.held.get("keys");
    if (!keys?.has(event.code)) return;
    const rest = [...keys].filter((code) => code !== event.code);
    this.hold("keys", rest, event.timeStamp);
  }

  turns(code) {
    const direction = TURNS[code];
    if (!direction) return false;
    return direction[0] ? this.spec.look_left_right : this.spec.look_up_down;
  }

  /** Whether a key is part of a shortcut of the browser's, unless the world holds Control. */
  isShortcut(event) {
    const control = this.known.has("ControlLeft") || this.known.has("ControlRight");
    return event.altKey || event.metaKey || (event.ctrlKey && !control);
  }

  pointerDown(event) {
    if (event.pointerType === "touch") {
      this.ontouch();
    } else if (this.listening && this.usesMouse && !this.locked) {
      // The click that captures is no shot; where nothing can be captured, dragging looks around.
      this.dragging = { id: event.pointerId, x: event.clientX, y: event.clientY };
    }
  }

  pointerUp(event) {
    if (this.dragging?.id === event.pointerId) this.dragging = null;
  }

  move(event) {
    if (!this.listening) return;
    if (this.locked) {
      this.travel[0] += event.movementX;
      this.travel[1] += event.movementY;
    } else if (this.dragging) {
      this.travel[0] += event.clientX - this.dragging.x;
      this.travel[1] += event.clientY - this.dragging.y;
      this.dragging.x = event.clientX;
      this.dragging.y = event.clientY;
    } else {
      return;
    }
    this.stamp(event.timeStamp);
  }

  mouseButton(event, down) {
    const code = `Mouse${event.button}`;
    if (!this.listening || !this.known.has(code)) return;
    const rest = [...(this.held.get("mouse") ?? [])].filter((held) => held !== code);
    this.hold("mouse", down ? [...rest, code] : rest, event.timeStamp);
  }

  /** Look at the gamepads; called by `take`, and by the page more often if it likes. */
  poll() {
    if (!this.listening || !document.hasFocus()) return;
    for (const pad of navigator.getGamepads?.() ?? []) {
      if (pad?.connected && pad.mapping === "standard") this.readPad(pad);
    }
  }

  readPad(pad) {
    const { deadZone } = this.settings;
    const pressed = (index) => (pad.buttons[index]?.value ?? 0) > 0.4;
    const [x = 0, y = 0, right = 0, down = 0] = pad.axes;
    const stick = directionsOf(x, y, Math.max(deadZone, 0.1));
    const { directions, others } = hands(this.spec.buttons);
    const codes = [];
    directions.forEach((hand, number) => {
      hand.forEach((code, direction) => {
        const byStick = stick.has(DIRECTIONS[direction]) && (directions.length === 1 || number === 0);
        const byPad = pressed(PAD_DIRECTIONS[direction]) && (directions.length === 1 || number === 1);
        if (byStick || byPad) codes.push(code);
      });
    });
    others.forEach((code, place) => pressed(PAD_PLACES[place]) && codes.push(code));
    this.hold(`pad ${pad.index}`, codes);
    this.look(`pad ${pad.index}`, ...beyondDeadZone(right, down, deadZone));
  }

  stamp(time) {
    this.time ??= time;
  }
}

/**
 * Two touch sticks: the left half walks, the right half looks; each appears under the finger.
 *
 * Adds to `layer` (an element over the picture): `.stick` with a `.knob` inside, and a button
 * `.touch-button` for each of the world's buttons that is no direction. The page styles them.
 */
export class Sticks {
  constructor(layer, input, radius = 56) {
    this.layer = layer;
    this.input = input;
    this.radius = radius; // pixels from the middle to fully out
    this.hands = hands(input.spec.buttons);
    this.sides = {};
    this.closing = new AbortController();
    layer.style.touchAction = "none";
    if (this.hands.directions.length) this.addStick("left");
    if (input.usesMouse) this.addStick("right");
    this.addButtons();
    const options = { signal: this.closing.signal };
    layer.addEventListener("pointerdown", (event) => this.down(event), options);
    layer.addEventListener("pointermove", (event) => this.move(event), options);
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
      layer.addEventListener(kind, (event) => this.up(event), options);
    }
    window.addEventListener("blur", () => this.letGo(), options);
    document.addEventListener("visibilitychange", () => document.hidden && this.letGo(), options);
  }

  /** Take everything out of the page again. */
  close() {
    this.closing.abort();
    this.letGo();
    for (const side of Object.values(this.sides)) side.element.remove();
    this.buttons.remove();
  }

  addStick(name) {
    const element = document.createElement("div");
    element.className = `stick ${name}`;
    element.innerHTML = '<div class="knob"></div>';
    this.layer.append(element);
    this.sides[name] = { name, element, knob: element.firstChild, pointer: null, x: 0, y: 0 };
  }

  addButtons() {
    this.buttons = document.createElement("div");
    this.buttons.className = "touch-buttons";
    for (const code of this.hands.others) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "touch-button";
      button.textContent = this.input.spec.names[this.input.spec.buttons.indexOf(code)];
      const hold = (codes) => (event) => {
        event.preventDefault();
        event.stopPropagation();
        this.input.hold(`touch ${code}`, codes, event.timeStamp);
      };
      button.addEventListener("pointerdown", hold([code]));
      for (const kind of ["pointerup", "pointercancel"]) button.addEventListener(kind, hold([]));
      this.buttons.append(button);
    }
    this.layer.append(this.buttons);
  }

  down(event) {
    if (event.pointerType === "mouse" || event.target.closest("button, a")) return;
    const box = this.layer.getBoundingClientRect();
    const wanted = event.clientX < box.left + box.width / 2 ? "left" : "right";
    const side = this.sides[wanted] ?? Object.values(this.sides)[0];
    if (!side || side.pointer !== null) return;
    event.preventDefault();
    this.layer.setPointerCapture(event.pointerId);
    Object.assign(side, { pointer: event.pointerId, x: event.clientX, y: event.clientY });
    side.element.style.left = `${event.clientX - box.left}px`;
    side.element.style.top = `${event.clientY - box.top}px`;
    side.element.classList.add("held");
    this.set(side, 0, 0, event.timeStamp);
  }

  move(event) {
    const side = this.sideOf(event);
    if (!side) return;
    const [dx, dy] = [event.clientX - side.x, event.clientY - side.y];
    const scale = 1 / Math.max(this.radius, Math.hypot(dx, dy));
    this.set(side, dx * scale, dy * scale, event.timeStamp);
  }

  up(event) {
    const side = this.sideOf(event);
    if (side) this.letGoOf(side, event.timeStamp);
  }

  letGo() {
    for (const side of Object.values(this.sides)) this.letGoOf(side, performance.now());
    for (const code of this.hands.others) this.input.hold(`touch ${code}`, []);
  }

  letGoOf(side, time) {
    side.pointer = null;
    side.element.classList.remove("held");
    this.set(side, 0, 0, time);
  }

  sideOf(event) {
    return Object.values(this.sides).find((side) => side.pointer === event.pointerId);
  }

  set(side, x, y, time) {
    const { deadZone } = this.input.settings;
    side.knob.style.transform = `translate(${x * this.radius}px, ${y * this.radius}px)`;
    if (side.name === "right") {
      this.input.look("right stick", ...beyondDeadZone(x, y, deadZone), time);
      return;
    }
    const found = directionsOf(x, y, deadZone);
    const [hand] = this.hands.directions;
    this.input.hold("left stick", hand.filter((_, direction) => found.has(DIRECTIONS[direction])), time);
  }
}

function writes(target) {
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable]");
}
