/**
 * What happens to a player's numbers, frame by frame: `worlds/happenings.py`, drawn by a graph.
 *
 *     const happenings = new Happenings(description, graphs);   // graphs.events, graphs.Tensor
 *     happenings.begin(recent, seed);                 // as the start ends; arrays of data.bin
 *     const { state, facts } = await happenings.step(moved, action);
 *     happenings.saw(latent);                         // and how it looks
 *
 * What is drawn follows from the seed and the number of the frame, so a link's session has the same
 * numbers. `facts` is what the transformer is told of them, empty in a world where it is told nothing.
 */

import { chances } from "./chance.js";

export class Happenings {
  constructor({ events, state, actions, model }, graphs) {
    Object.assign(this, { events, graphs });
    this.width = state.length;
    this.doing = actions.buttons.length + 2;
    this.latentShape = model.latent_shape;
  }

  begin({ states, actions, latents }, seed) {
    this.states = Float32Array.from(states);
    this.actions = Float32Array.from(actions);
    this.latents = Float32Array.from(latents);
    this.seed = seed;
    this.frame = 0;
  }

  /** The state of the next frame; `moved` is the last one's, where motion has moved the player. */
  async step(moved, action) {
    const { drawn, moved: movedNumbers } = this.events;
    this.frame += 1;
    const tensor = (data, ...shape) => new this.graphs.Tensor("float32", data, [1, ...shape]);
    const rows = (data, ...shape) => {
      const size = shape.reduce((a, b) => a * b, 1);
      return tensor(data, data.length / size, ...shape);
    };
    const given = {
      states: rows(this.states, this.width),
      actions: rows(this.actions, this.doing),
      latents: rows(this.latents, ...this.latentShape),
      action: tensor(action, this.doing),
      chance: tensor(chances(this.seed, this.frame, drawn), drawn),
    };
    if (movedNumbers) given.moved = tensor(moved, this.width);
    const found = await this.graphs.events(given);
    const state = Float32Array.from(found.next.data);
    push(this.states, state);
    push(this.actions, action);
    return { state, facts: Float32Array.from(found.facts?.data ?? []) };
  }

  saw(latent) {
    push(this.latents, latent);
  }
}

/** One more row at the end, the first one less. */
function push(rows, row) {
  rows.copyWithin(0, row.length);
  rows.set(row, rows.length - row.length);
}
