/**
 * The numbers that a player cares for, as native play shows them: health 100   ammo 24.
 *
 *     numbersLine(description.state, state)   // "" where nothing is known
 */

const CARED = ["number", "count", "flag"]; // not where one is
const DIGITS = 3;

export function numbersLine(numbers, state) {
  const isShown = ({ kind, low, high }, i) =>
    CARED.includes(kind) && low < high && Number.isFinite(state[i]);
  return numbers
    .map((number, i) => (isShown(number, i) ? `${number.name} ${short(state[i])}` : ""))
    .filter(Boolean)
    .join("   ");
}

/** Three digits, or all before the point: Python's .3g below 100 and .0f from there. */
export function short(value) {
  if (value === 0) return Object.is(value, -0) ? "-0" : "0";
  const sign = value < 0 ? "-" : "";
  const size = Math.abs(value);
  if (size >= 100) return sign + even(size);
  const [digits, exponent] = rounded(size);
  if (exponent < -4) {
    const [first, ...rest] = digits.replace(/0+$/, "");
    const mantissa = rest.length ? `${first}.${rest.join("")}` : first;
    return `${sign}${mantissa}e-${String(-exponent).padStart(2, "0")}`;
  }
  return sign + Number(`${digits[0]}.${digits.slice(1)}e${exponent}`);
}

/** The nearest whole number, of two the even one; JavaScript takes the larger. */
function even(value) {
  const floor = Math.floor(value);
  const over = value - floor;
  return String(over > 0.5 || (over === 0.5 && floor % 2) ? floor + 1 : floor);
}

/** A number's first three digits, of two as near the even ones, and the power of its first. */
function rounded(value) {
  const [mantissa, exponent] = value.toExponential(60).split("e"); // a float32's, without a rest
  const digits = mantissa.replace(".", "");
  const whole = digits.slice(0, DIGITS);
  const rest = digits.slice(DIGITS).replace(/0+$/, "");
  const up = rest > "5" || (rest === "5" && whole[DIGITS - 1] % 2 === 1);
  const nearest = String(Number(whole) + (up ? 1 : 0));
  if (nearest.length > DIGITS) return [nearest.slice(0, DIGITS), Number(exponent) + 1];
  return [nearest, Number(exponent)];
}
