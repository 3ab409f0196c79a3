/**
 * The map of a level: where one can walk, where one came from, and where one looks.
 *
 *     const map = new LevelMap(canvas, description, bits);   // bits: `motion.free` of data.bin
 *     map.draw(state);
 */

const GROUND = [74, 80, 92];
const EDGE = [150, 158, 172];
const TRAIL = 4000; // places that are remembered

export class LevelMap {
  constructor(canvas, description, bits) {
    const { motion } = description;
    this.motion = motion;
    this.canvas = canvas;
    this.box = occupied(bits, motion.free.cells);
    canvas.width = this.box.wide;
    canvas.height = this.box.high;
    this.context = canvas.getContext("2d");
    this.picture = document.createElement("canvas");
    this.picture.width = this.box.wide;
    this.picture.height = this.box.high;
    this.picture.getContext("2d").putImageData(paint(bits, motion.free.cells, this.box), 0, 0);
    this.trail = [];
  }

  clear() {
    this.trail = [];
  }

  /** Take note of where the player is; draw only if the map is seen. */
  draw(state) {
    const { place, heading } = this.motion.roles;
    const at = this.onMap(state[place[0]], state[place[1]]);
    const last = this.trail[this.trail.length - 1];
    if (!last || Math.hypot(at[0] - last[0], at[1] - last[1]) > 2) this.trail.push(at);
    if (this.trail.length > TRAIL) this.trail.shift();
    if (this.canvas.hidden) return;
    const { context } = this;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.picture, 0, 0);
    context.lineWidth = this.canvas.width / 200;
    context.strokeStyle = "rgb(232 182 90 / 0.6)";
    context.beginPath();
    for (const point of this.trail) context.lineTo(...point);
    context.stroke();
    const size = this.canvas.width / 32;
    const angle = (state[heading] * Math.PI) / 180;
    context.fillStyle = "#ffd27a";
    context.beginPath();
    for (const turn of [0, 2.5, -2.5]) {
      context.lineTo(
        at[0] + size * Math.cos(angle + turn),
        at[1] - size * Math.sin(angle + turn),
      );
    }
    context.fill();
  }

  onMap(x, y) {
    const { low, cell } = this.motion;
    return [
      (x - low[0]) / cell - this.box.left,
      this.box.bottom + this.box.high - (y - low[1]) / cell,
    ];
  }
}

function isFree(bits, at) {
  return (bits[at >> 3] >> (7 - (at & 7))) & 1;
}

/** The part of the map where anything is, with a margin. */
function occupied(bits, [wide, high]) {
  let [left, right, bottom, top] = [wide, 0, high, 0];
  for (let x = 0; x < wide; x++) {
    for (let y = 0; y < high; y++) {
      if (!isFree(bits, x * high + y)) continue;
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [bottom, top] = [Math.min(bottom, y), Math.max(top, y)];
    }
  }
  const margin = 20;
  return {
    left: left - margin,
    bottom: bottom - margin,
    wide: right - left + 2 * margin,
    high: top - bottom + 2 * margin,
  };
}

function paint(bits, [wide, high], box) {
  const image = new ImageData(box.wide, box.high);
  const free = (x, y) => x >= 0 && y >= 0 && x < wide && y < high && isFree(bits, x * high + y);
  for (let row = 0; row < box.high; row++) {
    for (let column = 0; column < box.wide; column++) {
      const [x, y] = [column + box.left, box.bottom + box.high - 1 - row];
      if (!free(x, y)) continue;
      const inside = free(x - 2, y) && free(x + 2, y) && free(x, y - 2) && free(x, y + 2);
      image.data.set([...(inside ? GROUND : EDGE), 255], 4 * (row * box.wide + column));
    }
  }
  return image;
}
