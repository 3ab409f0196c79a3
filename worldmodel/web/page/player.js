/**
 * The game loop: one action a frame at the world's rate, computed in a worker, drawn on a canvas.
 *
 *     const player = new Player(workerAddress, workerType, screen);
 *     player.take = () => input.take();                   // the action of the frame that begins
 *     await player.load({ base, blobs, engine, threads });
 *     await player.begin(start, seed);
 *     player.resume();
 *
 * `onworld`, `onprogress`, `onframe` and `onerror` may be set. Mouse travel is rounded to
 * hundredths of a degree and the rest kept for the next frame, so that a session can be written
 * down and played again exactly (`link.js`).
 */

export const PER_DEGREE = 100;
const KEPT = 60; // frames that numbers are taken over

export class Player {
  constructor(workerAddress, workerType, screen) {
    this.screen = screen;
    this.context = screen.getContext("2d", { alpha: false });
    if (!this.context) throw new Error("This browser gives no canvas to draw on: it is out of memory.");
    this.worker = new Worker(workerAddress, { type: workerType });
    this.helper = { address: workerAddress, type: workerType }; // the worker may start another
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = (event) => {
      event.preventDefault?.();
      this.fail(new Error(`The page's worker stopped: ${event.message || "its script is missing"}.`));
    };
    this.asked = new Map();
    this.lastId = 0;
    this.take = () => ({ buttons: [], mouse: [0, 0], time: null });
    this.onworld = () => {};
    this.onprogress = () => {};
    this.onframe = () => {};
    this.onerror = () => {};
    this.playing = false;
    this.busy = null; // the frame that is being computed
    this.history = []; // of this session: { buttons, mouse } in whole hundredths of a degree
    this.replay = []; // what is still to be played again
    this.clear();
  }

  async load(options) {
    const found = await this.ask("load", { ...options, worker: this.helper });
    Object.assign(this, { engine: found.engine, threads: found.threads, note: found.note });
    this.workers = found.workers;
  }

  /** Begin again at a start; what is computed of another session is waited for and dropped. */
  async begin(start, seed, replay = []) {
    this.pause();
    await this.busy;
    const found = await this.ask("reset", { start, seed });
    Object.assign(this, { start, seed, replay: [...replay], history: [], rest: [0, 0] });
    this.clear();
    this.draw(found);
  }

  resume() {
    if (this.playing) return;
    this.playing = true;
    this.due = performance.now();
    this.clear();
    this.schedule();
  }

  pause() {
    this.playing = false;
    clearTimeout(this.timer);
  }

  /** Frames a second, milliseconds from a key to its frame and of a frame's computation. */
  numbers() {
    const middle = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
    const [first, last] = [this.drawn[0], this.drawn[this.drawn.length - 1]];
    const span = this.drawn.length > 1 ? last - first : 0;
    return {
      rate: span ? (1000 * (this.drawn.length - 1)) / span : 0,
      latency: this.latencies.length ? middle(this.latencies) : null,
      step: this.times.length ? middle(this.times.map((times) => times.step)) : null,
      decode: this.times.length ? middle(this.times.map((times) => times.decode)) : null,
    };
  }

  /** For scripts: play these actions as fast as they go, with everything that comes out. */
  async playThrough(actions, wanted = {}) {
    const frames = [];
    for (const { buttons, mouse } of actions) {
      const found = await this.ask("step", { buttons, mouse, wantsLatent: true, ...wanted });
      this.draw(found, found.pixels.slice());
      frames.push(found);
    }
    return frames;
  }

  clear() {
    Object.assign(this, { drawn: [], latencies: [], times: [] });
  }

  schedule() {
    clearTimeout(this.timer);
    if (!this.playing || this.busy) return;
    this.timer = setTimeout(() => {
      this.busy = this.frame().catch((error) => this.fail(error));
      this.busy.finally(() => {
        this.busy = null;
        this.schedule();
      });
    }, Math.max(0, this.due - performance.now()));
  }

  async frame() {
    const taken = this.take();
    const again = this.replay.shift();
    const action = again ?? { buttons: taken.buttons, mouse: this.whole(taken.mouse) };
    const found = await this.ask("step", {
      buttons: action.buttons,
      mouse: action.mouse.map((hundredths) => hundredths / PER_DEGREE),
    });
    this.history.push(action);
    this.draw(found);
    const now = performance.now();
    keep(this.drawn, now);
    keep(this.times, found.times);
    if (taken.time !== null && !again) keep(this.latencies, now - taken.time);
    const period = 1000 / this.description.frames_per_second;
    this.due = Math.max(this.due + period, now - period);
  }

  whole(mouse) {
    return mouse.map((degrees, axis) => {
      const exact = degrees * PER_DEGREE + this.rest[axis];
      const rounded = Math.round(exact);
      this.rest[axis] = exact - rounded;
      return rounded || 0; // no minus zero
    });
  }

  draw(found, pixels = found.pixels) {
    const clamped = new Uint8ClampedArray(pixels.buffer, pixels.byteOffset, pixels.length);
    this.context.putImageData(new ImageData(clamped, this.screen.width, this.screen.height), 0, 0);
    this.state = found.state;
    this.onframe(found);
  }

  ask(kind, options = {}) {
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      this.asked.set(id, { resolve, reject });
      this.worker.postMessage({ kind, id, ...options });
    });
  }

  hear(data) {
    if (data.kind === "progress") return this.onprogress(data.loaded / (data.total || Infinity));
    if (data.kind === "world") {
      this.description = data.description;
      this.screen.width = data.description.columns;
      this.screen.height = data.description.rows;
      return this.onworld(data.description);
    }
    const { resolve, reject } = this.asked.get(data.id);
    this.asked.delete(data.id);
    return data.kind === "done" ? resolve(data) : reject(new Error(data.message));
  }

  fail(error) {
    this.pause();
    for (const { reject } of this.asked.values()) reject(error);
    this.asked.clear();
    this.onerror(error);
  }
}

function keep(list, value) {
  list.push(value);
  if (list.length > KEPT) list.shift();
}
