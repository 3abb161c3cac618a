// Colours, limits and numbers in words.

// Blue, neutral, orange: distinguished by every common kind of colour blindness. The neutral middle
// recedes into the page, so the dark map is light at its ends and the light map is dark there.
const DIVERGING = {
  light: ["#08306b", "#2166ac", "#74add1", "#e9e9e6", "#f4a259", "#c8560a", "#662200"],
  dark: ["#d6ecff", "#7cc0f5", "#2f78b7", "#2a3037", "#b0601c", "#f2a14e", "#ffe6c4"],
};
const GREYS = { light: ["#ffffff", "#8f969d"], dark: ["#14181d", "#7d8791"] };
const LOG_DECADES = 3;

const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function colourTable(stops) {
  const table = new Uint32Array(256), colours = stops.map(channels);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(place));
    const mix = colours[k].map((c, j) => Math.round(c + (place - k) * (colours[k + 1][j] - c)));
    table[i] = (255 << 24) | (mix[2] << 16) | (mix[1] << 8) | mix[0];
  }
  return table;
}

const css = (packed) => `rgb(${packed & 255} ${(packed >> 8) & 255} ${(packed >> 16) & 255})`;

// The percentile of |values|, over those that count.
function robustLimit(values, acts, percent) {
  const all = new Float32Array(values.length);
  let n = 0;
  for (let i = 0; i < values.length; i++) if (!acts || acts[i]) all[n++] = Math.abs(values[i]);
  const sizes = all.subarray(0, n).sort();
  const limit = sizes[Math.round((percent / 100) * (n - 1))];
  return limit > 0 ? limit : sizes[n - 1] || 0;
}

// From values to places on the colour scale: -1 and 1 are the limits.
function normalised(values, limit, log) {
  const result = new Float32Array(values.length);
  if (!(limit > 0)) return result;
  const steep = 10 ** LOG_DECADES / limit, top = Math.log1p(10 ** LOG_DECADES);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    result[i] = log ? (Math.sign(value) * Math.log1p(Math.abs(value) * steep)) / top : value / limit;
  }
  return result;
}

function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

// 0.01234 or 1.234 × 10⁻⁵, with a real minus sign.
function words(value, digits = 4) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value), sign = value < 0 ? "−" : "";
  if (size >= 1e-3 && size < 1e5) return sign + Number(size.toPrecision(digits));
  const [mantissa, exponent] = size.toExponential(digits - 1).split("e");
  return `${sign}${mantissa} × ${tenTo(exponent)}`;
}

const tenTo = (exponent) =>
  `10${exponent < 0 ? "⁻" : ""}${[...String(Math.abs(exponent))].map((digit) => RAISED[digit]).join("")}`;

// Marks of a colour scale from -limit to limit: where from -1 to 1, and what stands there, in units
// of 10 to a power.
function scaleMarks(limit, log) {
  const marks = [{ where: 0, text: "0" }];
  if (!(limit > 0)) return { power: 0, marks };
  const power = Math.floor(Math.log10(limit) + 1e-9);
  if (log) {
    for (let k = 0; k < LOG_DECADES; k++) {
      for (const sign of [-1, 1]) {
        const [where] = normalised([sign * 10 ** (power - k)], limit, true);
        marks.push({ where, text: k ? "" : sign < 0 ? "−1" : "1" });
      }
    }
    return { power, marks };
  }
  const shown = power >= -2 && power < 4 ? 0 : power;
  return { power: shown, marks: ticks(-limit, limit, 5).map((value) =>
    ({ where: value / limit, text: words(value / 10 ** shown) })) };
}

const DIGITS = 2; // of an estimate
const estimate = (value) => words(value, DIGITS);
const signed = (value, digits = DIGITS) => (value > 0 ? "+" : "") + words(value, digits);
const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f"); // toLocaleString takes 5 ms
const withUnit = (text, unit) => (unit ? `${text} ${unit}` : text);
