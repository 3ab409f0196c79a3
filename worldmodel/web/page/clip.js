/**
 * A recording of a session, as native play makes one: a video, and a row for every frame of it with
 * keys, mouse and what the world knew of itself (`storage/recording.py`).
 *
 *     const clip = new Clip(player, exact);    // exact: await Clip.isExact(screen)
 *     clip.add();                              // after every frame
 *     const { video, rows } = await clip.stop();   // each { blob, name }
 *
 * Where the browser encodes H.264 itself, the video has a frame for every row. Elsewhere it is of the
 * canvas, at whatever times the browser takes, and named otherwise, so that nobody reads the two
 * together.
 */

import { encodes, Mp4 } from "./mp4.js";
import { PER_DEGREE } from "./player.js";

const FORMAT = "worldmodel recording 1";
const SHOWN_WIDTH = 640; // small frames are enlarged, since players show a video at its own size
const HASHED = 8; // bytes
const IDLE = { buttons: [], mouse: [0, 0] }; // no action of the clip led to its first frame

export class Clip {
  /** Whether the video has a frame for every row. */
  static isExact(screen) {
    const factor = factorOf(screen);
    return encodes(screen.width * factor, screen.height * factor);
  }

  constructor(player, exact) {
    Object.assign(this, { player, exact, rows: [], hashes: [] });
    const { screen, description } = player;
    const factor = factorOf(screen);
    const canvas = document.createElement("canvas");
    canvas.width = screen.width * factor;
    canvas.height = screen.height * factor;
    this.context = canvas.getContext("2d", { alpha: false });
    if (!this.context) throw new Error("There is not enough memory to record.");
    this.context.imageSmoothingEnabled = false; // squares shrink back exactly
    this.rate = description.frames_per_second;
    this.video = exact ? new Mp4(canvas, this.rate) : new CanvasVideo(canvas);
    this.header = headerOf(player);
    this.add();
  }

  /** Whether no more frames can be added. */
  get isFull() {
    return this.video.isFull;
  }

  add() {
    const { screen, history, state } = this.player;
    const { buttons, mouse } = this.rows.length ? history[history.length - 1] : IDLE;
    this.context.drawImage(screen, 0, 0, this.context.canvas.width, this.context.canvas.height);
    this.video.add();
    this.hashes.push(hashOf(screen));
    this.rows.push({
      index: history.length,
      time: Number((this.rows.length / this.rate).toFixed(6)),
      buttons: [...buttons].sort(),
      mouse: mouse.map((hundredths) => hundredths / PER_DEGREE),
      latency_ms: null,
      hash: "",
      ...(this.header.state ? { state: Array.from(state, shortest) } : {}),
    });
  }

  async stop() {
    const hashes = await Promise.all(this.hashes);
    const rows = this.rows.map((row, i) => ({ ...row, hash: hashes[i] }));
    const lines = [this.header, ...rows].map((line) => `${JSON.stringify(line)}\n`);
    const stamp = new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-");
    const name = `${this.player.description.name}-${stamp}`;
    const blob = await this.video.finish();
    const ending = blob.type.replace("video/", "");
    return {
      video: { blob, name: this.exact ? `${name}.mp4` : `${name}-video.${ending}` },
      rows: { blob: new Blob(lines, { type: "application/jsonl" }), name: `${name}.jsonl` },
    };
  }
}

/** A video of whatever the canvas shows, for browsers that do not encode frame by frame. */
class CanvasVideo {
  constructor(canvas) {
    const kinds = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];
    const kind = kinds.find((known) => globalThis.MediaRecorder?.isTypeSupported(known));
    if (!kind || !canvas.captureStream) throw new Error("This browser cannot record a canvas.");
    this.isFull = false;
    this.parts = [];
    const options = { mimeType: kind, videoBitsPerSecond: 4e6 };
    this.recorder = new MediaRecorder(canvas.captureStream(), options);
    this.recorder.ondataavailable = (event) => event.data.size && this.parts.push(event.data);
    this.recorder.start(1000);
  }

  add() {} // the canvas is watched

  finish() {
    return new Promise((resolve) => {
      this.recorder.onstop = () => {
        for (const track of this.recorder.stream.getTracks()) track.stop();
        resolve(new Blob(this.parts, { type: this.recorder.mimeType.split(";")[0] }));
      };
      this.recorder.stop();
    });
  }
}

/** As native play's videos: a multiple that is wide enough, and even. */
function factorOf({ width, height }) {
  const factor = Math.ceil(SHOWN_WIDTH / width);
  const isOdd = factor > 1 || width % 2 || height % 2;
  return isOdd ? factor + (factor % 2) : factor;
}

function headerOf({ description, engine, start, seed, history }) {
  const { name, sha256, actions, state } = description;
  const numbers = state.map(({ name: number, kind, unit, low, high }) => [
    number,
    { kind, unit, low, high },
  ]);
  return {
    format: FORMAT,
    settings: { world: name },
    identity: { world: name, sha256, engine, dtype: "float32", device: "browser" },
    seed,
    start,
    first_frame: history.length,
    frames_per_second: description.frames_per_second,
    frame_size: [description.rows, description.columns],
    buttons: actions.buttons,
    versions: {},
    ...(numbers.length ? { state: Object.fromEntries(numbers) } : {}),
  };
}

/** A number's nine digits, which are enough for a float32; null where it is not known. */
function shortest(number) {
  return Number.isFinite(number) ? Number(number.toPrecision(9)) : null;
}

/** Of the frame's colours, as native recordings have it; empty over plain http. */
async function hashOf(screen) {
  if (!globalThis.crypto?.subtle) return "";
  const { width, height } = screen;
  const { data } = screen.getContext("2d").getImageData(0, 0, width, height);
  const colours = data.filter((_, i) => i % 4 < 3);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", colours));
  return [...digest.subarray(0, HASHED)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
