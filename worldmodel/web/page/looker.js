/**
 * What a floor plan of the level shows from where the player is: two graphs that need nothing but the view,
 * so that a second worker can run them while the first one makes the frame's latents.
 *
 *     const looker = new Looker(Tensor, graphs);          // in this worker; graphs.look, graphs.draw
 *     const looker = await Assistant.open(worker, options);   // in another; null if there is none
 *     const { numbers, depth } = await looker.look(view);
 *     const { from_plan, picture } = await looker.draw();      // of the same view
 *
 * All four are { data: Float32Array, dims }.
 */

export class Looker {
  constructor(Tensor, graphs) {
    Object.assign(this, { Tensor, graphs });
  }

  async look(view) {
    this.view = new this.Tensor("float32", view, [1, 4]);
    this.rays = await this.graphs.look({ view: this.view });
    return this.rays;
  }

  draw() {
    return this.graphs.draw({ view: this.view, ...this.rays });
  }
}

/** Asks a worker of its own, where drawing begins as soon as the rays are known. */
export class Assistant {
  /** `worker` is { address, type } of `worker.js`, `options` what its `assist` takes. */
  static async open({ address, type }, options) {
    let worker = null;
    try {
      worker = new Worker(address, { type });
      const assistant = new Assistant(worker);
      await assistant.ask("assist", options);
      return assistant;
    } catch {
      worker?.terminate(); // no second worker, or no memory for it: one must do
      return null;
    }
  }

  constructor(worker) {
    this.worker = worker;
    this.asked = new Map();
    this.lastId = 0;
    worker.onmessage = ({ data }) => {
      const { resolve, reject } = this.asked.get(data.id);
      this.asked.delete(data.id);
      if (data.kind === "done") resolve(data.found);
      else reject(new Error(data.message));
    };
    worker.onerror = (event) => {
      event.preventDefault?.();
      for (const { reject } of this.asked.values()) reject(new Error("The second worker stopped."));
      this.asked.clear();
    };
  }

  look(view) {
    const rays = this.ask("look", { view });
    this.drawn = this.ask("draw");
    this.drawn.catch(() => {}); // whoever waits for it is told
    return rays;
  }

  draw() {
    return this.drawn;
  }

  ask(kind, options = {}) {
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      this.asked.set(id, { resolve, reject });
      this.worker.postMessage({ kind, id, ...options });
    });
  }
}
