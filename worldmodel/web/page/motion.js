/**
 * Where the player is next: `model/motion.py` and `model/ground.py`, number by number in fp32.
 *
 *     const motion = new Motion(rules, arrays);       // `motion` of world.json
 *     state = motion.next(state, vector);             // Float32Array; action vector of the new frame
 *     motion.view(state)                              // x, y, eye's height, heading
 */

const FULL_TURN = 360;
const f = Math.fround;

/** a modulo b, with the sign of b, as torch.remainder has it. */
function remainder(a, b, round) {
  const rest = a % b;
  return rest < 0 ? round(rest + b) : rest;
}

export class Motion {
  constructor(rules, arrays) {
    this.rules = rules;
    this.roles = rules.roles;
    this.ground = new Ground(rules, arrays(rules.free));
    this.layers = rules.layers.map((layer) => ({
      weight: arrays(layer.weight),
      bias: arrays(layer.bias),
      activation: layer.activation,
    }));
  }

  view(state) {
    const { place, eye, heading } = this.roles;
    return Float32Array.of(state[place[0]], state[place[1]], state[eye], state[heading]);
  }

  next(state, vector) {
    const { rules, roles } = this;
    const buttons = vector.subarray(0, vector.length - 2);
    let place = roles.place.map((index) => state[index]);
    let velocity = roles.velocity.map((index) => state[index]);
    const before = state[roles.heading];
    const turned = this.turned(vector[vector.length - 2]);
    let [ahead, left] = [0, 0];
    buttons.forEach((held, button) => {
      ahead = f(ahead + f(held * rules.push[button][0]));
      left = f(left + f(held * rules.push[button][1]));
    });
    const pushes = buttons.some((held) => held !== 0);
    const stop = f(f(rules.stop) * f(rules.keep));
    for (let tic = 1; tic <= rules.tics; tic++) {
      const angle = before - turned * (tic / rules.tics);
      const [cos, sin] = [f(this.sine(angle + 90)), f(this.sine(angle))];
      const pushed = [f(f(cos * ahead) - f(sin * left)), f(f(sin * ahead) + f(cos * left))];
      [place, velocity] = this.tic(place, plus(velocity, pushed));
      if (!pushes && velocity.every((speed) => Math.abs(speed) < stop)) velocity = [0, 0];
    }
    const after = Float32Array.from(state);
    roles.place.forEach((index, axis) => (after[index] = place[axis]));
    roles.velocity.forEach((index, axis) => (after[index] = velocity[axis]));
    after[roles.heading] = remainder(f(before - turned), FULL_TURN, f);
    let phase = null;
    if (roles.phase !== null) {
      phase = remainder(f(state[roles.phase] + f(rules.phase_step)), f(roles.period), f);
      after[roles.phase] = phase;
    }
    after[roles.eye] = this.eye(velocity, phase);
    return after;
  }

  /** Degrees to the right of a frame's mouse travel, in whole steps where the game has such. */
  turned(mouse) {
    const { mouse_degrees, turn_step, tics, hair } = this.rules;
    const turned = f(f(mouse_degrees) * mouse);
    if (!turn_step) return turned;
    const left = -turned / (tics * turn_step);
    return f(-Math.ceil(left - hair) * (tics * turn_step));
  }

  /** The game's table of a quarter turn, mirrored; between its entries the one nearer to zero. */
  sine(degrees) {
    const { sines, hair } = this.rules;
    if (!sines) return Math.sin(degrees * (Math.PI / 180));
    const entry = FULL_TURN / sines;
    const whole = remainder(degrees, FULL_TURN, Number);
    const half = remainder(whole, FULL_TURN / 2, Number);
    const [up, down] = [half / entry, (FULL_TURN / 2 - half) / entry];
    const index =
      half < FULL_TURN / 4 ? Math.floor(up + hair) : Math.ceil(down - hair) - 1;
    const size = Math.sin(index * ((entry * Math.PI) / 180));
    return whole < FULL_TURN / 2 ? size : -size;
  }

  tic(place, velocity) {
    const { keep, travel } = this.rules;
    const move = scaled(velocity, f(travel));
    let aim = plus(place, move);
    if (!this.ground.holds(aim) && this.ground.holds(place)) {
      const [end, slid] = this.slide(place, move);
      aim = end;
      velocity = slid.map((part) => f(part / f(travel)));
    }
    return [aim, scaled(velocity, f(keep))];
  }

  slide(place, move) {
    const { rules, ground } = this;
    let [here, left, after] = [place, move, move];
    let [arrived, slides] = [false, true];
    for (let turn = 0; turn < rules.slides; turn++) {
      const [share, stopsX] = ground.meet(here, left);
      const stopped = Math.abs(stopsX ? left[0] : left[1]);
      slides &&= f(f(1 - share) * stopped) > f(rules.graze);
      const near = Math.max(f(share - f(rules.short)), 0);
      const aim = plus(here, scaled(left, near));
      slides &&= ground.holds(aim) || near === 0;
      if (slides) {
        here = aim;
        left = scaled(left, f(1 - share));
      }
      const along = stopsX ? [0, left[1]] : [left[0], 0];
      if (slides) after = along;
      if (slides && ground.holds(plus(here, along))) {
        here = plus(here, along);
        arrived = true;
        slides = false;
      }
    }
    for (const rest of [[0, left[1]], [left[0], 0]]) {
      if (arrived || !ground.holds(plus(here, rest))) continue;
      here = plus(here, rest);
      arrived = true;
    }
    return [here, after];
  }

  eye(velocity, phase) {
    const { rules, roles } = this;
    const angle = phase === null ? 0 : f(f(2 * Math.PI) * f(phase / f(roles.period)));
    const [x, y] = velocity.map((part) => f(part / f(rules.speed)));
    let known = [x, y, f(f(x * x) + f(y * y)), f(Math.cos(angle)), f(Math.sin(angle))];
    for (const { weight, bias, activation } of this.layers) {
      known = Array.from(bias, (offset, row) => {
        const sum = known.reduce((s, value, i) => s + value * weight[row * known.length + i], 0);
        const output = f(sum + offset);
        return activation ? f(output / (1 + Math.exp(-output))) : output;
      });
    }
    return f(f(rules.eye[0]) + f(f(rules.eye[1]) * known[0]));
  }
}

/** The map of where the player's middle can be, and the questions that a step asks of it. */
export class Ground {
  constructor(rules, bits) {
    this.rules = rules;
    this.low = rules.low.map(f);
    this.cell = f(rules.cell);
    [this.wide, this.high] = rules.free.cells;
    this.beyond = Math.round(rules.beyond / rules.cell);
    this.free = new Uint8Array(this.wide * this.high);
    for (let i = 0; i < this.free.length; i++) this.free[i] = (bits[i >> 3] >> (7 - (i & 7))) & 1;
  }

  isFree(x, y) {
    return x >= 0 && y >= 0 && x < this.wide && y < this.high && this.free[x * this.high + y] > 0;
  }

  /** Whether the player's middle can be at a place; who stands on a wall's edge is not in it. */
  holds(place) {
    const [x, y] = this.cells(place);
    const edge = f(this.rules.on_edge);
    for (const [i, j] of [[0, 0], [edge, 0], [0, edge], [edge, edge]]) {
      if (this.isFree(Math.floor(f(x - i)), Math.floor(f(y - j)))) return true;
    }
    return false;
  }

  /** The share of a move that is free, 1 if all is, and whether it is x that is stopped. */
  meet(place, move) {
    const at = this.cells(place);
    const cells = move.map((part) => f(part / this.cell));
    const [x, y] = [this.met(at, cells, 0), this.met(at, cells, 1)];
    return [Math.min(x, y, 1), x <= y];
  }

  met(at, move, axis) {
    const { samples, on_edge, least } = this.rules;
    const [here, there] = [at[axis], move[axis]];
    if (Math.abs(there) < f(least)) return 2;
    const first = there > 0 ? Math.ceil(here) : Math.floor(here);
    const step = there > 0 ? 1 : -1;
    let nearest = 2;
    for (let sample = 0; sample < samples; sample++) {
      const edge = first + step * sample;
      const share = f(f(edge - here) / there);
      if (share < -f(on_edge) || share > 1) continue;
      const before = Math.min(Math.max(f(share - f(on_edge)), 0), 1);
      const across = Math.floor(f(at[1 - axis] + f(before * move[1 - axis])));
      if (this.isWall(axis, edge, across, there > 0)) {
        nearest = Math.min(nearest, Math.min(Math.max(share, 0), 1));
      }
    }
    return nearest;
  }

  /** Whether a step up (or down) the axis over the edge before cell `edge` ends in a wall. */
  isWall(axis, edge, across, up) {
    const [length, breadth] = axis === 0 ? [this.wide, this.high] : [this.high, this.wide];
    const [e, c] = [Math.min(Math.max(edge, 0), length), Math.min(Math.max(across, 0), breadth - 1)];
    if (e === 0 || e === length) return false;
    const read = (i, j) => (axis === 0 ? this.free[i * this.high + j] : this.free[j * this.high + i]);
    const last = Math.min(c + this.beyond, breadth - 1);
    for (let j = Math.max(c - this.beyond, 0); j <= last; j++) {
      const [low, high] = [read(e - 1, j), read(e, j)];
      if (up ? low && !high : high && !low) return true;
    }
    return false;
  }

  cells(place) {
    return place.map((value, axis) => f(f(value - this.low[axis]) / this.cell));
  }
}

function plus(one, other) {
  return [f(one[0] + other[0]), f(one[1] + other[1])];
}

function scaled(vector, factor) {
  return [f(vector[0] * factor), f(vector[1] * factor)];
}
