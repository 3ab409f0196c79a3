/**
 * A world in play: cache, noise, motion, numbers, and the two graphs that compute its frames.
 *
 *     const world = new World(description, arrays, graphs, looker);
 *     await world.reset(0, seed);                         // start, seed
 *     const frame = await world.next(["KeyW"], [8, 0]);   // buttons, degrees right and down
 *     frame.pixels                                        // Uint8Array, rows x columns x RGBA
 *
 * `graphs` has `Tensor` and functions, `step` and `decode`, which take and give tensors by name. In a
 * world with a floor plan there is one more, `show`, and a `looker` (`looker.js`); in one whose numbers are
 * drawn, `events` (`happenings.js`); in one whose past is pulled to what is seen, `seen`.
 */

import { Cache } from "./cache.js";
import { Happenings } from "./happenings.js";
import { Motion } from "./motion.js";
import { Generator } from "./random.js";

const f = Math.fround;

/** A value rounded to a multiple of `step`; halves go to the even one, as torch has it. */
export function toGrid(value, step) {
  const scaled = f(value / f(step));
  const floor = Math.floor(scaled);
  const over = scaled - floor;
  const up = over > 0.5 || (over === 0.5 && floor % 2 !== 0);
  return f((up ? floor + 1 : floor) * f(step));
}

export class World {
  constructor(description, arrays, graphs, looker = null) {
    Object.assign(this, { description, arrays, graphs, looker });
    const { model, motion, events } = description;
    this.cache = new Cache(model, arrays(model.space_angles));
    this.motion = motion ? new Motion(motion, arrays) : null;
    this.happenings = events ? new Happenings(description, graphs) : null;
    this.isLost = description.state.map(({ is_lost }) => is_lost); // a number that nobody predicts
    this.latentSize = model.latent_shape.reduce((a, b) => a * b, 1);
    this.state = null;
  }

  /** Begin again: the start's frames become the past. */
  async reset(start, seed) {
    const { model } = this.description;
    const past = this.description.starts[start];
    const latents = this.arrays(past.latents);
    const conditions = this.arrays(past.conditions);
    this.generator = new Generator(seed);
    this.cache.clear();
    this.finished = new Float32Array(this.latentSize);
    this.before = new Float32Array(this.latentSize);
    this.condition = new Float32Array(model.condition_width);
    this.action = new Float32Array(this.description.actions.buttons.length + 2);
    this.facts = new Float32Array(this.description.events?.facts ?? 0);
    this.state = past.state ? Float32Array.from(this.arrays(past.state)) : null;
    if (this.happenings) {
      const recent = Object.entries(past.recent).map(([name, entry]) => [name, this.arrays(entry)]);
      this.happenings.begin(Object.fromEntries(recent), seed);
    }
    this.look();
    const frames = latents.length / this.latentSize;
    for (let frame = 0; frame < frames; frame++) {
      if (frame) await this.step(new Float32Array(this.noiseSize)); // a clean pass; nothing is new
      const [size, width] = [this.latentSize, model.condition_width];
      this.remember(
        latents.slice(frame * size, (frame + 1) * size),
        conditions.slice(frame * width, (frame + 1) * width),
      );
    }
    const last = latents.slice(-this.latentSize);
    return { pixels: await this.decode(last), state: this.state };
  }

  /** The next frame: pixels, latents, where the player is, and how long it took. */
  async next(buttons, mouse) {
    this.action = this.vector(buttons, mouse);
    const began = performance.now();
    await this.move();
    this.look();
    const { draws } = this.description.sampler;
    const noise = new Float32Array(this.noiseSize);
    for (let draw = 0; draw < draws; draw++) {
      noise.set(this.generator.normal(this.latentSize), draw * this.latentSize);
    }
    const { latent, condition } = await this.step(noise);
    const { latent_step } = this.description.sampler;
    if (latent_step) latent.forEach((value, i) => (latent[i] = toGrid(value, latent_step)));
    this.happenings?.saw(latent);
    const stepped = performance.now();
    const pixels = await this.decode(latent);
    const decoded = performance.now();
    if (!latent.every(Number.isFinite)) throw new Error("the world's latents are not numbers");
    this.remember(await this.pulled(latent), condition);
    const times = { step: stepped - began, decode: decoded - stepped };
    return { pixels, latent, state: this.state, times };
  }

  /** The state one frame on: the player moves, then things happen. */
  async move() {
    if (this.motion) this.state = this.motion.next(this.state, this.action);
    if (this.happenings) {
      Object.assign(this, await this.happenings.step(this.state, this.action)); // state, facts
    } else if (this.state) {
      this.state = this.state.map((value, i) => (this.isLost[i] ? NaN : value));
    }
  }

  /** What the player does as the networks are told it. */
  vector(buttons, mouse) {
    const { actions } = this.description;
    const limit = actions.max_mouse_degrees;
    const held = mouse.map((degrees) => Math.min(Math.max(degrees, -limit), limit));
    return Float32Array.of(
      ...actions.buttons.map((code) => (buttons.includes(code) ? 1 : 0)),
      actions.look_left_right ? held[0] / actions.mouse_degrees : 0,
      actions.look_up_down ? held[1] / actions.mouse_degrees : 0,
    );
  }

  get noiseSize() {
    return this.description.sampler.draws * this.latentSize;
  }

  async step(noise) {
    const { model, sampler } = this.description;
    const tensor = (data, ...shape) => new this.graphs.Tensor("float32", data, shape);
    const { cache } = this;
    const half = model.head_width / 2;
    const steered = Float32Array.of(...this.facts, ...this.action);
    const kept = [model.layers, 1, model.heads, cache.slots * model.tokens, model.head_width];
    const given = {
      noise: tensor(noise, sampler.draws, 1, 1, ...model.latent_shape),
      last_condition: tensor(this.condition, 1, 1, model.condition_width),
      action: tensor(steered, 1, 1, steered.length),
      finished: tensor(this.finished, 1, 1, ...model.latent_shape),
      before: tensor(this.before, 1, 1, ...model.latent_shape),
      k: tensor(cache.k, ...kept),
      v: tensor(cache.v, ...kept),
      mask: tensor(cache.mask, 2, (cache.slots + 2) * model.tokens),
      cos: tensor(cache.cos, 2 * model.tokens, half),
      sin: tensor(cache.sin, 2 * model.tokens, half),
    };
    if (this.looker) {
      const { numbers } = await this.rays;
      given.view = tensor(this.view, 1, 4);
      given.numbers = tensor(numbers.data, ...numbers.dims);
    }
    const found = await this.graphs.step(given);
    cache.keep(found.own_k.data, found.own_v.data);
    return {
      latent: Float32Array.from(found.latent.data),
      condition: Float32Array.from(found.condition.data),
    };
  }

  /** Begin to look from where the player is. */
  look() {
    if (!this.looker) return;
    this.view = this.motion.view(this.state);
    this.rays = this.looker.look(this.view);
    this.rays.catch(() => {}); // whoever waits for them is told
  }

  /** The numbers that a scene is seen by; an object that is not there stands nowhere. */
  sceneTensor() {
    const { columns, viewer, nowhere } = this.description.scene;
    const view = Float32Array.from(columns, (column, i) => {
      const value = this.state[column];
      return i >= viewer && Number.isNaN(value) ? nowhere : value;
    });
    return new this.graphs.Tensor("float32", view, [1, columns.length]);
  }

  async decode(latent) {
    const { Tensor, decode, show } = this.graphs;
    const { model, scene } = this.description;
    const given = { latent: new Tensor("float32", latent, [1, 1, ...model.latent_shape]) };
    if (scene) given.view = this.sceneTensor();
    let found = await decode(given);
    if (this.looker) {
      const drawn = await this.looker.draw();
      this.picture = drawn.picture;
      const tensors = Object.entries(drawn).map(([name, { data, dims }]) => [name, new Tensor("float32", data, dims)]);
      found = await show({ coarse: found.coarse, ...Object.fromEntries(tensors) });
    }
    return Uint8Array.from(found.frame.data);
  }

  /** Latents as they are remembered: now and then a little nearer to what is seen, so that errors fade. */
  async pulled(latent) {
    const { view_pull: pull, view_pull_every: every } = this.description.sampler;
    if (!pull || (this.cache.now + 1) % every) return latent;
    const { Tensor, seen } = this.graphs;
    const tensor = ({ data, dims }) => new Tensor("float32", data, dims);
    const given = this.description.scene ? { view: this.sceneTensor() } : { picture: tensor(this.picture) };
    const { data } = (await seen(given)).seen;
    return latent.map((value, i) => value + f(f(pull) * f(data[i] - value)));
  }

  /** The new frame is the finished one from now on; its clean pass comes with the next. */
  remember(latent, condition) {
    const { context_sigma } = this.description.sampler;
    this.before = this.finished;
    this.finished = latent;
    if (context_sigma) {
      const noise = this.generator.normal(this.latentSize);
      const [keep, add] = [f(1 - f(context_sigma)), f(context_sigma)];
      this.finished = latent.map((value, i) => f(keep * value) + f(add * noise[i]));
    }
    this.condition = condition;
    this.cache.advance();
  }
}
