/**
 * The KV cache as the frame step reads it: slots, masks and rotary angles (`engine/static_cache.py`).
 *
 *     const cache = new Cache(model, spaceAngles);
 *     cache.keep(ownK, ownV);   // the finished frame's keys and values, which the next step gives
 *     cache.advance();          // the new frame is the finished one from now on
 *
 * Slots, each a frame: the sinks as the finished frame sees them, the sinks as the new one does, then
 * a ring of the last frames. Arrays: k v [layer, head, token, channel], cos sin [token, pair].
 */

const HIDDEN = -1e9;
const { fround } = Math;

export class Cache {
  constructor(model, spaceAngles) {
    this.model = model;
    this.space = spaceAngles; // of a frame's tokens: [token, pair]
    this.half = model.head_width / 2;
    this.rows = model.layers * model.heads;
    this.slots = 2 * model.sink_frames + model.context_frames;
    this.row = this.slots * model.tokens * model.head_width; // numbers of a layer's head
    this.k = new Float32Array(this.rows * this.row);
    this.v = new Float32Array(this.rows * this.row);
    this.mask = new Float32Array(2 * (this.slots + 2) * model.tokens);
    this.cos = new Float32Array(2 * model.tokens * this.half);
    this.sin = new Float32Array(2 * model.tokens * this.half);
    this.sinks = new Float32Array(
      this.rows * model.sink_frames * model.tokens * model.head_width, // keys as they came
    );
    this.clear();
  }

  /** Forget everything. */
  clear() {
    for (const array of [this.k, this.v, this.cos, this.sin, this.sinks]) array.fill(0);
    this.now = -1; // the time of the finished frame, whose keys are in no slot yet
    this.isKept = true;
    this.open(0);
  }

  advance() {
    const { model, half } = this;
    this.now += 1;
    this.isKept = false;
    for (const angles of [this.cos, this.sin]) angles.copyWithin(0, model.tokens * half);
    const sinks = model.sink_frames * model.tokens * model.head_width;
    for (let row = 0; row < this.rows; row++) {
      const at = row * this.row;
      this.k.copyWithin(at, at + sinks, at + 2 * sinks);
    }
    this.open(this.now + 1);
  }

  keep(k, v) {
    if (this.isKept) return;
    this.isKept = true;
    const { model, now } = this;
    const sinks = model.sink_frames;
    const ring = (frame) => 2 * sinks + ((frame - sinks) % model.context_frames);
    const slots = now < sinks ? [now, sinks + now] : [ring(now)];
    const size = model.tokens * model.head_width;
    for (let row = 0; row < this.rows; row++) {
      const [ownK, ownV] = [k, v].map((own) => own.subarray(row * size, (row + 1) * size));
      for (const slot of slots) {
        this.k.set(ownK, row * this.row + slot * size);
        this.v.set(ownV, row * this.row + slot * size);
      }
      if (now < sinks) this.sinks.set(ownK, (row * sinks + now) * size);
    }
  }

  /** Angles of the new frame at `time`, the sinks as it sees them, and the masks of both frames. */
  open(time) {
    const { model, half } = this;
    const turned = this.timeAngles(time);
    for (let token = 0; token < model.tokens; token++) {
      for (let pair = 0; pair < half; pair++) {
        const angle = fround(turned[pair] + this.space[token * half + pair]);
        const at = (model.tokens + token) * half + pair;
        this.cos[at] = Math.cos(angle);
        this.sin[at] = Math.sin(angle);
      }
    }
    this.hide();
    for (let sink = 0; sink < model.sink_frames; sink++) {
      const end = time + 1 - model.context_frames - model.sink_frames;
      if (end > 0) this.moveSink(sink, end);
    }
  }

  /** Turn a sink's keys by a time, so that it stands directly before the window. */
  moveSink(sink, moved) {
    const { model, half } = this;
    const angles = this.timeAngles(moved);
    const cos = angles.map((angle) => Math.cos(angle));
    const sin = angles.map((angle) => Math.sin(angle));
    const width = model.head_width;
    for (let row = 0; row < this.rows; row++) {
      for (let token = 0; token < model.tokens; token++) {
        const from = ((row * model.sink_frames + sink) * model.tokens + token) * width;
        const slot = model.sink_frames + sink;
        const to = row * this.row + (slot * model.tokens + token) * width;
        for (let i = 0; i < half; i++) {
          const [first, second] = [this.sinks[from + i], this.sinks[from + half + i]];
          this.k[to + i] = fround(first * cos[i]) - fround(second * sin[i]);
          this.k[to + half + i] = fround(first * sin[i]) + fround(second * cos[i]);
        }
      }
    }
  }

  /** Angles of a time for all pairs; zero on those of rows and columns. */
  timeAngles(time) {
    const angles = new Float32Array(this.half);
    this.model.time_frequencies.forEach((frequency, pair) => {
      angles[pair] = (time * frequency) % (2 * Math.PI);
    });
    return angles;
  }

  /** What finished and new frame see of [cache | finished frame | new frame]. */
  hide() {
    const { model, now } = this;
    const [sinks, window] = [model.sink_frames, model.context_frames];
    const columns = this.slots + 2;
    const known = Math.min(Math.max(now, 0), sinks);
    for (let row = 0; row < 2; row++) {
      for (let slot = 0; slot < columns; slot++) {
        let seen = false;
        if (slot < sinks) seen = row === 0 && slot < known;
        else if (slot < 2 * sinks) seen = row === 1 && slot - sinks < known;
        else if (slot < this.slots) {
          const first = slot - 2 * sinks + sinks;
          const time = first + Math.floor((now - 1 - first) / window) * window;
          seen = time >= sinks && time < now && now + row - time < window;
        } else if (slot === this.slots) seen = now >= 0 || row === 0;
        else seen = row === 1;
        const at = (row * columns + slot) * model.tokens;
        this.mask.fill(seen ? 0 : HIDDEN, at, at + model.tokens);
      }
    }
  }
}
