/**
 * A session as a link: its start, its seed and everything that was done in it.
 *
 *     location.hash = await toHash({ world, start, seed, buttons, history });
 *     const session = await fromHash(location.hash, buttons);   // null if there is none in it
 *
 * What was done is written as runs of equal frames: how many, which buttons (bits, in the world's
 * order), mouse right and down in hundredths of a degree; as variable-length numbers, compressed.
 */

const MOST_BUTTONS = 30; // bits of a number
export const LONGEST = 30000; // letters; chats and mails cut longer links

export async function toHash({ world, start, seed, buttons, history }) {
  if (buttons.length > MOST_BUTTONS) throw new Error("This world has too many buttons for a link.");
  const bytes = [];
  let run = null;
  const end = () => run && [run.count, ...run.numbers].forEach((number) => put(bytes, number));
  for (const action of history) {
    const bits = action.buttons.reduce((sum, code) => sum | (1 << buttons.indexOf(code)), 0);
    const numbers = [bits, ...action.mouse.map(zigzag)];
    if (run && numbers.every((number, i) => number === run.numbers[i])) run.count++;
    else {
      end();
      run = { count: 1, numbers };
    }
  }
  end();
  const packed = await through(new CompressionStream("deflate-raw"), Uint8Array.from(bytes));
  const keys = btoa(String.fromCharCode(...packed)).replace(/\+/g, "-").replace(/\//g, "_");
  const parts = { world, start: start + 1, seed, keys: keys.replace(/=+$/, "") };
  const hash = new URLSearchParams(parts).toString();
  if (hash.length > LONGEST) {
    throw new Error("This session is too long for a link: begin again, or record a clip.");
  }
  return `#${hash}`;
}

export async function fromHash(hash, world, buttons, starts) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  if (!parts.has("start")) return null;
  const [start, seed] = [Number(parts.get("start")) - 1, Number(parts.get("seed") ?? 0)];
  const isSeed = Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32;
  if (!Number.isInteger(start) || start < 0 || start >= starts || !isSeed) {
    throw new Error("This link names a start that this world does not have.");
  }
  if (parts.has("world") && parts.get("world") !== world) {
    throw new Error("This link was made with another version of this world, so it is not played.");
  }
  const broken = "This link is not whole: a part of it was lost on the way.";
  const history = [];
  let numbers;
  try {
    const text = atob((parts.get("keys") ?? "").replace(/-/g, "+").replace(/_/g, "/"));
    const packed = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    const bytes = packed.length
      ? await through(new DecompressionStream("deflate-raw"), packed)
      : packed;
    numbers = read(bytes);
  } catch {
    throw new Error(broken);
  }
  if (numbers.length % 4) throw new Error(broken);
  for (let i = 0; i < numbers.length; i += 4) {
    const [count, bits, right, down] = numbers.slice(i, i + 4);
    if (count > 1e6 || history.length > 1e6 || bits >= 2 ** buttons.length) throw new Error(broken);
    const held = buttons.filter((_, button) => bits & (1 << button));
    const action = { buttons: held, mouse: [unzigzag(right), unzigzag(down)] };
    for (let frame = 0; frame < count; frame++) history.push(action);
  }
  return { start, seed, history };
}

function zigzag(number) {
  return number < 0 ? -2 * number - 1 : 2 * number;
}

function unzigzag(number) {
  return number % 2 ? -(number + 1) / 2 : number / 2;
}

function put(bytes, number) {
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) | 128);
  bytes.push(number);
}

function read(bytes) {
  const numbers = [];
  let [number, scale] = [0, 1];
  for (const byte of bytes) {
    number += (byte & 127) * scale;
    scale *= 128;
    if (scale > 2 ** 42) throw new Error("a number is too long");
    if (byte > 127) continue;
    numbers.push(number);
    [number, scale] = [0, 1];
  }
  if (scale > 1) throw new Error("the last number is cut off");
  return numbers;
}

async function through(stream, bytes) {
  const answer = new Response(new Blob([bytes]).stream().pipeThrough(stream));
  return new Uint8Array(await answer.arrayBuffer());
}
