/** The page of `worldmodel serve`: pictures come over a socket, what the player does goes back. */

import { Input, Sticks } from "./input.js";
import { BrokenVideo, decodesH264, Pictures } from "./pictures.js";

// "KeyW" as people read it: W. Keys act by place, whatever the layout writes on them.
function buttonName(code) {
  return code.replace(/^(Key|Digit)/, "").replace(/^Mouse(\d)$/, (_, n) => `mouse button ${+n + 1}`);
}

const TRIES = 12; // servers of a fleet that are asked for a session to watch
const RETRY = 1000; // milliseconds between attempts to connect again
const GIVE_UP = 60000; // the server keeps a session without its player for so long
const ORDERS = { F5: "save", F9: "load", Backspace: "rewind" };
const $ = (id) => document.getElementById(id);
const link = new URLSearchParams(location.hash.slice(1));
const keyName = `worldmodel resume ${location.host}`;

const state = {
  socket: null,
  worlds: [],
  world: null, // the one that is played
  input: null,
  sticks: null,
  resume: link.get("watch") ? "" : (sessionStorage.getItem(keyName) ?? ""),
  watch: link.get("watch") ?? "",
  link: "",
  playing: false,
  over: "", // why nothing follows
  lostAt: 0,
  tries: 0, // to find the session to watch
  arrivals: [],
  delays: [],
  acting: 0,
  pictures: null, // the decoder of this connection
  h264: false,
  drawing: Promise.resolve(),
};

function send(message) {
  if (state.socket?.readyState === WebSocket.OPEN) state.socket.send(JSON.stringify(message));
}

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/play`);
  socket.binaryType = "arraybuffer";
  state.socket = socket;
  state.pictures?.close();
  state.pictures = new Pictures();
  state.over = "";
  socket.onopen = () => send({
    type: "hello", token: link.get("token") ?? "", resume: state.resume, watch: state.watch, h264: state.h264,
  });
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") heard[JSON.parse(data).type]?.(JSON.parse(data));
    else receive(socket, data);
  };
  socket.onclose = () => closed(socket);
}

const heard = {
  worlds(message) {
    state.worlds = message.worlds;
    state.lostAt = 0;
    const [only, ...others] = message.worlds;
    $("name").textContent = document.title = others.length ? "worldmodel" : only.name;
    $("starts").replaceChildren(...message.worlds.map(section));
    show("menu", "Choose where to begin");
  },
  playing(message) {
    enter(state.worlds[message.world]);
    state.playing = true;
    state.tries = 0;
    if (message.resume) {
      state.resume = message.resume;
      state.link = `${location.origin}/#watch=${message.watch}`;
      sessionStorage.setItem(keyName, message.resume);
    }
    if (message.parked) heard.parked({ why: message.parked });
    else show("playing", "");
  },
  parked(message) {
    state.input?.release();
    $("continue").hidden = Boolean(state.watch);
    show("parked", message.why);
  },
  going() {
    show("playing", "");
  },
  notice(message) {
    note(message.why);
  },
  recording() {
    recording(true);
    note("recording");
  },
  clip(message) {
    recording(false);
    note(message.why);
    $("clip").hidden = !message.video;
    if (!message.video) return;
    Object.assign($("video"), { href: message.video });
    Object.assign($("presses"), { href: message.keys });
    $("video").textContent = `Clip of ${message.seconds} s, here for ${message.kept / 60} min`;
  },
  refused(message) {
    state.tries += 1; // each attempt reaches any server of a fleet
    if (!message.elsewhere || state.tries >= TRIES) state.over = message.why;
  },
  ended(message) {
    state.over = message.why;
  },
};

function closed(socket) {
  if (socket !== state.socket) return;
  recording(false);
  state.playing = false;
  state.input?.release();
  if (state.over) {
    state.tries = 0;
    forget();
    show("over", state.over);
    $("continue").hidden = false;
    return;
  }
  state.lostAt ||= performance.now();
  if (performance.now() - state.lostAt < GIVE_UP) {
    show("lost", state.tries ? "Looking for the session" : "The connection is lost; connecting again");
    setTimeout(connect, state.tries ? RETRY / 4 : RETRY);
  } else {
    forget();
    show("over", "The server cannot be reached");
    $("continue").hidden = false;
  }
}

function forget() {
  state.resume = "";
  sessionStorage.removeItem(keyName);
}

/** A frame is decoded at once, and drawn after those before it. */
function receive(socket, data) {
  const header = new DataView(data);
  const [serial, number, time] = [header.getUint32(0, true), header.getUint32(4, true), header.getFloat64(8, true)];
  const coming = state.pictures.decode(new Uint8Array(data, 16), serial);
  coming.catch(() => {}); // said below, in its turn
  state.drawing = state.drawing.then(async () => {
    const picture = await coming;
    if (socket === state.socket) draw(picture, serial, number, time);
    picture.close();
  }).catch((error) => broke(socket, error));
}

/** Without H.264 from now on, where that was it: the session is taken up again with pictures. */
function broke(socket, error) {
  note(String(error));
  if (!(error instanceof BrokenVideo) || socket !== state.socket) return;
  state.h264 = false;
  socket.close();
}

function draw(picture, serial, number, time) {
  const screen = $("screen");
  const paper = screen.getContext("2d", { alpha: false });
  const columns = picture.displayWidth ?? picture.width;
  if (columns >= screen.width) paper.drawImage(picture, 0, 0); // video has even numbers of pixels
  else paper.drawImage(picture, 0, 0, screen.width, screen.height); // a slow link's are half as large
  send({ type: "ack", frame: serial });
  measure(time);
  screen.dispatchEvent(new CustomEvent("drawn", { detail: number }));
  if (state.playing && state.input && !state.acting) {
    // Once a frame, shortly before the next one is computed.
    state.acting = setTimeout(act, 600 / state.world.frames_per_second);
  }
}

function act() {
  state.acting = 0;
  if (!state.input || !state.playing) return;
  const { buttons, mouse, time } = state.input.take();
  send({ type: "act", buttons, mouse, time: time ?? 0 });
}

function measure(time) {
  const now = performance.now();
  state.arrivals.push(now);
  if (time) state.delays.push(now - time);
  state.arrivals = state.arrivals.filter((at) => now - at < 1000);
  state.delays = state.delays.slice(-20);
  const middle = [...state.delays].sort((a, b) => a - b)[state.delays.length >> 1];
  $("numbers").textContent = `${state.arrivals.length} frames/s`
    + (middle === undefined ? "" : `, latency ${Math.round(middle)} ms`);
}

function listen(spec) {
  const input = new Input($("play"), spec);
  state.input = input;
  input.onkey = (code) => {
    if (code === "Escape") menu();
    else if (ORDERS[code] && state.playing) send({ type: ORDERS[code] });
    else return false;
    return true;
  };
  input.onlock = (locked, reason) => reason && note(reason);
  input.ontouch = () => {
    $("sticks").hidden = false;
    state.sticks ??= new Sticks($("sticks"), input);
  };
}

/** Another world's keys and size. */
function enter(world) {
  if (state.world?.name === world.name) return;
  state.world = world;
  document.title = world.name;
  Object.assign($("screen"), { width: world.columns, height: world.rows });
  state.sticks?.close();
  state.input?.close();
  state.sticks = state.input = null;
  $("words").hidden = Boolean(state.watch) || !world.actions.prompts;
  if (!state.watch) listen(world.actions);
}

/** What the menu says of a world. */
function section(world, number) {
  const [box, title, keys, buttons] = ["section", "h2", "p", "div"].map((name) => document.createElement(name));
  title.textContent = world.name;
  title.hidden = state.worlds.length === 1;
  const { buttons: codes, names } = world.actions;
  keys.className = "keys";
  keys.textContent = codes.map((code, n) => `${buttonName(code)}: ${names[n]}`).join(" · ")
    + " · F5 save, F9 load, Backspace rewind, Esc menu"
    + (world.sessions === 1 ? " · one player at a time" : "");
  buttons.className = "starts";
  box.append(title, buttons, keys);
  showStarts(buttons, world.starts, number);
  return box;
}

async function showStarts(box, starts, world) {
  const buttons = await Promise.all(starts.map(async ({ caption, picture }, start) => {
    const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes]));
    const [button, canvas, words] = ["button", "canvas", "span"].map((name) => document.createElement(name));
    Object.assign(canvas, { width: image.width, height: image.height });
    canvas.getContext("2d").drawImage(image, 0, 0);
    words.textContent = caption;
    button.type = "button";
    button.append(canvas, words);
    button.addEventListener("click", () => begin(world, start));
    return button;
  }));
  box.replaceChildren(...buttons);
}

function begin(world, start) {
  state.input?.release();
  send({ type: "play", world, start, seed: crypto.getRandomValues(new Uint32Array(1))[0] >>> 1 });
  $("play").focus();
}

function menu() {
  if (state.watch || !state.worlds.length) return;
  state.input?.unlock();
  if (state.playing) send({ type: "park" });
  else show("menu", "Choose where to begin");
}

function show(name, message) {
  document.body.dataset.state = name;
  $("message").textContent = message;
  if (name !== "parked" && name !== "over") $("continue").hidden = true;
}

function recording(is) {
  $("record").textContent = is ? "Stop" : "Record";
}

function note(text) {
  $("note").textContent = text;
}

$("continue").addEventListener("click", () => {
  if (document.body.dataset.state === "parked") send({ type: "go" });
  else connect();
});
$("menu").addEventListener("click", menu);
$("screen").addEventListener("click", () => state.playing && state.input?.lock());
window.addEventListener("blur", () => act());
// While the game stands still, any key of the world's goes on.
window.addEventListener("keydown", () => document.body.dataset.state === "parked" && act());
document.addEventListener("visibilitychange", () => {
  if (state.playing && document.hidden && !state.watch) send({ type: "park" });
});
$("fullscreen").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen().catch((error) => note(error.message));
});
$("words").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.playing && $("text").value.trim()) send({ type: "say", text: $("text").value });
  $("text").value = "";
  $("play").focus();
});
$("record").addEventListener("click", () => {
  if (!state.playing || state.watch) return note("begin first");
  send({ type: $("record").textContent === "Stop" ? "stop" : "record" });
});
$("watch").addEventListener("click", async () => {
  if (!state.link) return note("begin first");
  try {
    await navigator.clipboard.writeText(state.link);
    note(`copied: ${state.link}`);
  } catch {
    note(state.link); // plain http on another machine: browsers give no clipboard there
  }
});

state.h264 = await decodesH264();
connect();
