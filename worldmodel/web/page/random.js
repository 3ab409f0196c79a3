/**
 * Normal noise as torch draws it on a CPU: the same seed gives the same world, in the page as native.
 *
 *     const generator = new Generator(seed);   // torch.Generator().manual_seed(seed)
 *     generator.normal(384);                   // torch.randn(384, generator=generator)
 *
 * The Mersenne Twister is exact; logarithm and cosine may differ from torch's in the last bit.
 */

const SIZE = 624;
const SHIFT = 397;
const TWO_PI = Math.fround(2 * Math.PI);
const { fround } = Math;

export class Generator {
  constructor(seed) {
    this.words = new Uint32Array(SIZE);
    this.words[0] = seed >>> 0;
    for (let i = 1; i < SIZE; i++) {
      const before = this.words[i - 1] ^ (this.words[i - 1] >>> 30);
      this.words[i] = Math.imul(1812433253, before) + i;
    }
    this.next = SIZE;
  }

  /** 32 random bits. */
  bits() {
    if (this.next === SIZE) this.twist();
    let word = this.words[this.next++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  }

  /** `count` normal numbers, a multiple of 16: Box and Muller's transform, by sixteen. */
  normal(count) {
    const numbers = new Float32Array(count);
    for (let i = 0; i < count; i++) numbers[i] = (this.bits() & 0xffffff) / 0x1000000;
    for (let i = 0; i < count; i += 16) {
      for (let j = i; j < i + 8; j++) {
        const radius = fround(Math.sqrt(fround(-2 * fround(Math.log(1 - numbers[j])))));
        const angle = fround(TWO_PI * numbers[j + 8]);
        numbers[j] = radius * fround(Math.cos(angle));
        numbers[j + 8] = radius * fround(Math.sin(angle));
      }
    }
    return numbers;
  }

  twist() {
    const { words } = this;
    for (let i = 0; i < SIZE; i++) {
      const both = (words[i] & 0x80000000) | (words[(i + 1) % SIZE] & 0x7fffffff);
      words[i] = words[(i + SHIFT) % SIZE] ^ (both >>> 1) ^ (both & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }
}
