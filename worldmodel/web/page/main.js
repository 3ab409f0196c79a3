/** The page: what is shown, what is pressed, and what becomes of a session. */

import { Clip } from "./clip.js";
import { Input, Sticks } from "./input.js";
import { fromHash, toHash } from "./link.js";
import { LevelMap } from "./map.js";
import { Player } from "./player.js";
import { arraysOf, Files } from "./files.js";
import { numbersLine } from "./numbers.js";

const find = (id) => document.getElementById(id);
const LABELS = {
  KeyW: "W", KeyA: "A", KeyS: "S", KeyD: "D", Mouse0: "click", Space: "space",
  ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→",
};
const NUMBERS_EVERY = 500; // ms

/** Called by boot.js with where the files are. */
export async function start(from) {
  const page = new Page(from);
  globalThis.worldmodel = page; // for scripts
  await page.load();
}

class Page {
  constructor(from) {
    this.from = from;
    this.player = new Player(from.worker, from.workerType, find("screen"));
    this.player.onworld = (description) => this.show(description);
    this.player.onprogress = (part) => this.progress(part);
    this.player.onframe = (found) => this.drawn(found);
    this.player.onerror = (error) => this.say("error", error.message);
    this.wanted = null; // a start that was chosen before everything was there
    this.ready = false;
    this.clip = null;
    this.session = null; // of a link
  }

  async load() {
    const asked = new URLSearchParams(location.search);
    try {
      await this.player.load({
        base: this.from.base,
        blobs: this.from.blobs,
        engine: asked.get("engine") ?? "auto",
        threads: Number(asked.get("threads") ?? 0),
        alone: asked.get("workers") === "1",
      });
    } catch (error) {
      this.say("error", error.message);
      return;
    }
    await this.openMap();
    this.isExact = await Clip.isExact(find("screen"));
    this.ready = true;
    if (this.player.note) this.note(this.player.note);
    await this.readLink();
    if (this.wanted !== null) await this.begin(this.wanted);
    setInterval(() => this.showNumbers(), NUMBERS_EVERY);
  }

  show(description) {
    this.description = description;
    document.title = description.name;
    find("name").textContent = description.name;
    find("title").textContent = description.title;
    document.documentElement.style.setProperty("--shape", description.columns / description.rows);
    this.input = new Input(find("play"), description.actions);
    this.input.listening = false;
    this.input.onkey = (code) => this.key(code);
    this.input.onlock = (locked, reason) => this.locked(locked, reason);
    this.input.ontouch = () => this.showSticks();
    if (matchMedia("(any-pointer: coarse)").matches) this.showSticks();
    this.player.take = () => this.take();
    this.showStarts();
    this.showKeys();
    this.listen();
  }

  listen() {
    const { input } = this;
    const press = (id, act) => find(id).addEventListener("click", () => act.call(this));
    press("menu", this.toggle);
    press("continue", this.resume);
    press("restart", this.restart);
    press("show-map", this.nextMap);
    press("record", this.record);
    press("share", this.share);
    press("fullscreen", this.fullscreen);
    find("play").addEventListener("pointerup", (event) => {
      const plays = document.body.dataset.state === "playing";
      if (plays && event.pointerType === "mouse") input.lock();
    });
    document.addEventListener("visibilitychange", () => this.hidden());
    window.addEventListener("hashchange", () => this.readLink());
    window.addEventListener("gamepadconnected", (event) => this.note(`${event.gamepad.id} plugged in`));
  }

  showStarts() {
    const buttons = this.description.starts.map((start, number) => {
      const button = document.createElement("button");
      button.type = "button";
      const picture = document.createElement("img");
      picture.alt = "";
      picture.src = this.address(`world/${start.picture}`);
      const caption = document.createElement("span");
      caption.textContent = start.caption;
      button.append(picture, caption);
      button.addEventListener("click", () => this.choose(number));
      return button;
    });
    find("starts").replaceChildren(...buttons);
  }

  showKeys() {
    const { actions, motion } = this.description;
    const lines = actions.buttons.map((code, i) => [LABELS[code] ?? code, actions.names[i]]);
    if (this.input.usesMouse) lines.push(["mouse", "look (click the picture)"], ["← →", "turn"]);
    lines.push(["Esc", "menu"], ["R", "restart"]);
    if (motion) lines.push(["M", "map"]);
    lines.push(["C", "record a clip"], ["L", "link"], ["F", "fullscreen"]);
    const rows = lines.map(([key, what]) => {
      const row = document.createElement("div");
      row.append(document.createElement("dt"), document.createElement("dd"));
      [row.firstChild.textContent, row.lastChild.textContent] = [key, what];
      return row;
    });
    find("keys").replaceChildren(...rows);
  }

  showSticks() {
    if (this.sticks) return;
    find("sticks").hidden = false;
    this.sticks = new Sticks(find("sticks"), this.input);
  }

  async openMap() {
    if (!this.description.motion) return;
    const files = new Files(this.from.base, this.from.blobs);
    files.expect(this.description.files);
    const arrays = arraysOf(await files.read("world/data.bin"));
    this.map = new LevelMap(find("map"), this.description, arrays(this.description.motion.free));
    find("show-map").hidden = false;
  }

  choose(number) {
    const buttons = [...find("starts").children];
    buttons.forEach((button, i) => button.classList.toggle("chosen", i === number));
    this.wanted = number;
    if (this.ready) this.begin(number);
  }

  async begin(number, seed = crypto.getRandomValues(new Uint32Array(1))[0], replay = []) {
    this.wanted = null;
    this.map?.clear();
    await this.keepClip();
    try {
      await this.player.begin(number, seed, replay);
    } catch (error) {
      this.say("error", error.message);
      return;
    }
    this.again = replay.length;
    this.resume();
  }

  resume() {
    if (this.player.start === undefined) return;
    this.say("playing", "");
    this.input.release();
    this.input.listening = true;
    find("play").focus({ preventScroll: true });
    this.player.resume();
    navigator.wakeLock?.request("screen").catch(() => {});
  }

  pause() {
    this.player.pause();
    this.input.release();
    this.input.listening = false;
    this.input.unlock();
    find("continue").hidden = this.player.start === undefined;
    this.say("paused", "Paused. Choose a place to begin anew.");
  }

  toggle() {
    if (document.body.dataset.state === "playing") this.pause();
    else if (this.ready) this.resume();
  }

  restart() {
    if (this.ready && this.player.start !== undefined) this.begin(this.player.start);
  }

  hidden() {
    const plays = document.body.dataset.state === "playing";
    if (document.hidden) this.player.pause();
    else if (plays) this.player.resume();
  }

  locked(locked, reason) {
    if (reason) this.note("The mouse cannot be captured here: hold a button and drag to look.");
    else if (!locked && document.body.dataset.state === "playing") this.pause();
  }

  key(code) {
    const act = {
      Escape: this.toggle,
      KeyR: this.restart,
      KeyM: this.map && this.nextMap,
      KeyC: this.record,
      KeyL: this.share,
      KeyF: this.fullscreen,
    }[code];
    act?.call(this);
    return Boolean(act);
  }

  take() {
    const taken = this.input.take();
    const acts = taken.buttons.length || taken.mouse.some((degrees) => degrees);
    if (this.player.replay.length && acts) {
      this.player.replay = [];
      this.note("You play now.");
    } else if (this.again && !this.player.replay.length) {
      this.note("The session ends here; you play now.");
    }
    this.again = this.player.replay.length;
    return taken;
  }

  drawn(found) {
    if (found.state && this.map) this.map.draw(found.state);
    find("known").textContent = found.state ? numbersLine(this.description.state, found.state) : "";
    if (this.clip) this.addToClip();
  }

  /** None, small, large, none. */
  nextMap() {
    const canvas = find("map");
    if (!canvas.hidden && canvas.classList.contains("large")) canvas.hidden = true;
    else if (!canvas.hidden) canvas.classList.add("large");
    else {
      canvas.hidden = false;
      canvas.classList.remove("large");
    }
    find("show-map").classList.toggle("on", !canvas.hidden);
    if (this.player.state) this.map.draw(this.player.state);
  }

  async record() {
    if (this.clip) await this.keepClip();
    else if (this.player.start !== undefined) this.beginClip();
  }

  beginClip() {
    try {
      this.clip = new Clip(this.player, this.isExact);
    } catch (error) {
      this.note(error.message);
    }
    this.showClip();
  }

  addToClip() {
    this.clip.add();
    if (this.clip.isFull) this.keepClip("The clip ends here: the browser had no time for more. ");
  }

  /** The video to the browser's downloads, and a link to the keys: two files at once need leave. */
  async keepClip(why = "") {
    if (!this.clip) return;
    const { clip } = this;
    this.clip = null;
    this.showClip();
    try {
      const { video, rows } = await clip.stop();
      URL.revokeObjectURL(find("presses").href);
      Object.assign(find("presses"), { href: URL.createObjectURL(rows.blob), download: rows.name });
      find("presses").hidden = false;
      this.note(why + save(video.blob, video.name));
    } catch (error) {
      this.note(`There is no clip: ${error.message}`);
    }
  }

  showClip() {
    find("record").classList.toggle("on", Boolean(this.clip));
    find("record").textContent = this.clip ? "Stop" : "Record";
  }

  /** A link to this session, copied; or shown, where nothing can be copied. */
  async share() {
    const { player, description } = this;
    if (player.start === undefined) return "";
    let hash;
    try {
      const { start: number, seed, history } = player;
      const { buttons } = description.actions;
      hash = await toHash({ world: this.identity, start: number, seed, buttons, history });
    } catch (error) {
      this.note(error.message);
      return "";
    }
    const address = new URL(hash, location.href).href;
    const seconds = Math.round(player.history.length / description.frames_per_second);
    try {
      await navigator.clipboard.writeText(address);
      this.note(`Copied: a link to these ${seconds} s.`);
    } catch {
      this.pause();
      find("address").value = address;
      find("link").showModal();
      find("address").select();
    }
    return address;
  }

  async readLink() {
    if (!this.ready) return;
    const { actions, starts } = this.description;
    let session = null;
    try {
      session = await fromHash(location.hash, this.identity, actions.buttons, starts.length);
    } catch (error) {
      this.say("starts", `${error.message} Choose a place to begin.`);
      return;
    }
    if (session) await this.begin(session.start, session.seed, session.history);
    else if (this.wanted === null) this.say("starts", "Choose a place to begin.");
    if (session?.history.length) this.note("A session is played again; press a key to take over.");
  }

  /** Which weights: a link says it, since other weights make another session of it. */
  get identity() {
    const { sha256, events } = this.description;
    const files = ["transformer.safetensors", ...(events ? ["events.safetensors"] : [])];
    return files.map((name) => sha256[name].slice(0, 8)).join("-");
  }

  fullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen?.().catch((error) => this.note(error.message));
  }

  address(path) {
    const { base, blobs } = this.from;
    return blobs ? URL.createObjectURL(blobs[path]) : new URL(path, base).href;
  }

  progress(part) {
    if (this.ready || document.body.dataset.state === "error") return;
    find("progress").firstElementChild.style.width = `${Math.min(100, 100 * part)}%`;
    const chosen = this.wanted === null ? "" : `, then ${this.description.starts[this.wanted].caption}`;
    find("message").textContent =
      part < 1 ? `Loading ${Math.floor(100 * part)} %${chosen}` : `Preparing${chosen}`;
  }

  showNumbers() {
    if (document.body.dataset.state !== "playing") return;
    const { rate, latency, step, decode } = this.player.numbers();
    if (!rate) return;
    const { workers, threads } = this.player;
    const engine = this.player.engine === "webgpu" ? "WebGPU" : `WASM × ${workers * threads}`;
    find("rate").textContent = `${rate.toFixed(1)} fps · ${(step + decode).toFixed(0)} ms a frame`;
    const delay = latency === null ? "" : ` · ${latency.toFixed(0)} ms from key to picture`;
    find("more").textContent = `${delay} · ${engine}`;
    const wanted = this.description.frames_per_second;
    if (rate < 0.8 * wanted && this.player.drawn.length > 40 && !this.saidSlow) {
      this.saidSlow = true;
      const more = crossOriginIsolated
        ? ""
        : " Over https, or with COOP and COEP headers, more cores are used.";
      this.note(`${rate.toFixed(0)} of ${wanted} frames a second here.${more}`);
    }
  }

  say(state, sentence) {
    document.body.dataset.state = state;
    find("message").textContent = sentence;
    if (state === "error") this.player.pause();
  }

  note(sentence) {
    const note = find("note");
    note.textContent = sentence;
    note.classList.add("shown");
    clearTimeout(this.noteTimer);
    this.noteTimer = setTimeout(() => note.classList.remove("shown"), 5000);
  }
}

/** Hand a file to the browser's downloads; what to tell of it. */
function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  return `${name}, ${(blob.size / 1e6).toFixed(1)} MB`;
}
