// Numbers in words.

const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const DIGITS = 2; // of an estimate

/** 10 to a power. @param {number | string} exponent */
export const tenTo = (exponent) =>
  `10${Number(exponent) < 0 ? "⁻" : ""}${[...String(Math.abs(Number(exponent)))].map((digit) => RAISED[Number(digit)]).join("")}`;

/** 0.01234 or 1.234 × 10⁻⁵, with a real minus sign. @param {number} value */
export function words(value, digits = 4) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value), sign = value < 0 ? "−" : "";
  if (size >= 1e-3 && size < 1e5) return sign + Number(size.toPrecision(digits));
  const [mantissa, exponent] = size.toExponential(digits - 1).split("e");
  return `${sign}${mantissa} × ${tenTo(exponent)}`;
}

/** An estimate, in two digits. @param {number} value */
export const estimate = (value) => words(value, DIGITS);

/** @param {number} value */
export const signed = (value, digits = DIGITS) => (value > 0 ? "+" : "") + words(value, digits);

/** Thousands apart; toLocaleString takes 5 ms. @param {number} n */
export const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");

/** @param {string} text @param {string} unit */
export const withUnit = (text, unit) => (unit ? `${text} ${unit}` : text);

/** @param {number} value */
export const percent = (value) => `${words(100 * value, DIGITS)} %`;

/** Numbers in a text such as "0.5, 0.2"; none where one of its parts is no number. @param {string} text */
export function numbersIn(text) {
  const parts = text.trim().split(/\s*[,;]\s*|\s+/), values = parts.map(Number);
  return parts.every((part, i) => part !== "" && Number.isFinite(values[i])) ? values : [];
}

/** Least and largest. @param {ArrayLike<number>} values @returns {[number, number]} */
export function range(values) {
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}
