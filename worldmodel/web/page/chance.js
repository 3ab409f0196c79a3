/**
 * Chances of a frame, the same as native play has: the stream `arrays("events", seed, frame)` of
 * `random_streams.py`, as numpy's default generator draws it in float32.
 *
 *     chances(7, 1, 5);   // Float32Array, five numbers from 0 to 1, of seed 7's first frame
 *
 * SHA-256 makes the stream's seed, numpy's SeedSequence spreads it, PCG64 draws. All of it is whole
 * numbers, so every bit is the same everywhere. A page opened by plain http has no crypto.subtle.
 */

const WORD = (1n << 64n) - 1n;
const STATE = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;
const POOL = 4; // words of a SeedSequence
// SHA-256's own: fractions of the square roots of the first eight primes, of the cube roots of 64.
const BEGIN = [
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];
const ROUNDS = [
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

export function chances(seed, frame, count) {
  const generator = new Pcg64(seedOf(`["events", ${seed}, ${frame}]`));
  return Float32Array.from({ length: count }, () => (generator.bits() >>> 8) / 0x1000000);
}

/** A stream's seed: the first 63 bits of the digest of its key. */
export function seedOf(key) {
  const [high, low] = sha256(key);
  return ((BigInt(high) << 32n) | BigInt(low)) >> 1n;
}

class Pcg64 {
  constructor(seed) {
    const [high, low, streamHigh, streamLow] = spread(seed);
    this.step = (((streamHigh << 64n) | streamLow) << 1n) | 1n;
    this.step &= STATE;
    this.state = (this.step + ((high << 64n) | low)) & STATE;
    this.advance();
    this.rest = null; // half of a word, for the next call
  }

  advance() {
    this.state = (this.state * MULTIPLIER + this.step) & STATE;
  }

  /** 32 random bits. */
  bits() {
    if (this.rest !== null) {
      const kept = this.rest;
      this.rest = null;
      return kept;
    }
    this.advance();
    const folded = (this.state >> 64n) ^ (this.state & WORD);
    const turn = this.state >> 122n;
    const word = ((folded >> turn) | (folded << (64n - turn))) & WORD;
    this.rest = Number(word >> 32n);
    return Number(word & 0xffffffffn);
  }
}

/** Four words of 64 bits from a seed: numpy's SeedSequence(seed).generate_state(4, uint64). */
function spread(seed) {
  const given = [Number(seed & 0xffffffffn), Number(seed >> 32n)];
  let factor = 0x43b0d7e5;
  const hashed = (value) => {
    const mixed = value ^ factor;
    factor = Math.imul(factor, 0x931e8875);
    return folded(Math.imul(mixed, factor));
  };
  const pool = Array.from({ length: POOL }, (_, i) => hashed(given[i] ?? 0));
  for (let from = 0; from < POOL; from++) {
    for (let to = 0; to < POOL; to++) {
      if (from === to) continue;
      const other = hashed(pool[from]);
      pool[to] = folded(Math.imul(0xca01f9dd, pool[to]) - Math.imul(0x4973f715, other));
    }
  }
  factor = 0x8b51f9dd;
  const words = Array.from({ length: 2 * POOL }, (_, i) => {
    const mixed = pool[i % POOL] ^ factor;
    factor = Math.imul(factor, 0x58f38ded);
    return BigInt(folded(Math.imul(mixed, factor)) >>> 0);
  });
  return [0, 2, 4, 6].map((i) => (words[i + 1] << 32n) | words[i]);
}

function folded(value) {
  return value ^ (value >>> 16);
}

/** The digest's eight words of a text in ASCII that fits into one block: up to 55 letters. */
function sha256(text) {
  const block = new DataView(new ArrayBuffer(64));
  for (let i = 0; i < text.length; i++) block.setUint8(i, text.charCodeAt(i));
  block.setUint8(text.length, 0x80);
  block.setUint32(60, 8 * text.length);
  const words = Array.from({ length: 16 }, (_, i) => block.getUint32(4 * i));
  for (let i = 16; i < 64; i++) {
    const [near, far] = [words[i - 2], words[i - 15]];
    const a = turned(near, 17) ^ turned(near, 19) ^ (near >>> 10);
    const b = turned(far, 7) ^ turned(far, 18) ^ (far >>> 3);
    words.push((words[i - 16] + b + words[i - 7] + a) | 0);
  }
  let [a, b, c, d, e, f, g, h] = BEGIN;
  for (let i = 0; i < 64; i++) {
    const heard = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25);
    const chosen = (e & f) ^ (~e & g);
    const first = (h + heard + chosen + ROUNDS[i] + words[i]) | 0;
    const said = turned(a, 2) ^ turned(a, 13) ^ turned(a, 22);
    const second = (said + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [a, b, c, d, e, f, g, h] = [(first + second) | 0, a, b, c, (d + first) | 0, e, f, g];
  }
  return [a, b, c, d, e, f, g, h].map((word, i) => (word + BEGIN[i]) >>> 0);
}

function turned(word, bits) {
  return (word >>> bits) | (word << (32 - bits));
}
