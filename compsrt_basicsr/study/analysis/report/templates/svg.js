'use strict';
// Charts as SVG: scales, ticks and axes. Nothing here knows what is drawn.

const svg = (() => {
  const namespace = document.getElementById('seed').namespaceURI;

  /** Makes an element of SVG with attributes and children; a string becomes text. */
  function make(name, attributes = {}, ...children) {
    const element = document.createElementNS(namespace, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  /** Steps of 1, 2 or 5 times a power of ten that cut [low, high] into about `count` parts. */
  function linearTicks(low, high, count) {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw * 0.999);
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(k * step);
    return ticks;
  }

  /** Powers of ten, with 2 and 5 times them where there are few. */
  function logTicks(low, high, count) {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    const every = Math.max(1, Math.ceil((last - first) / count));
    const factors = last - first <= 2 ? [1, 2, 5] : [1];
    const ticks = [];
    for (let e = first; e <= last; e++) {
      if ((e - first) % every === 0) for (const f of factors) ticks.push(f * 10 ** e);
    }
    return ticks.filter((t) => t >= low * 0.999 && t <= high * 1.001);
  }

  /** A number in few characters, with a true minus sign. */
  function short(value) {
    if (value === 0) return '0';
    const size = Math.abs(value);
    if (size < 1e-3 || size >= 1e5) {
      const exponent = Math.floor(Math.log10(size) + 1e-9);
      const mantissa = +(value / 10 ** exponent).toPrecision(2);
      const power = String(exponent).replace(/./g, (c) => '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'['-0123456789'.indexOf(c)]);
      return (mantissa === 1 ? '' : mantissa === -1 ? '−' : String(mantissa).replace('-', '−') + '×') + '10' + power;
    }
    return String(+value.toPrecision(4)).replace('-', '−');
  }

  /** A number for a table: four digits, so that a column can be compared. */
  function exact(value) {
    const size = Math.abs(value);
    return size >= 1e-3 && size < 1e4 ? value.toPrecision(4).replace('-', '−') : short(value);
  }

  /** A function from values to pixels, and its ticks; [low, high] grows a little so that nothing touches the frame. */
  function scale(low, high, log, from, to, count) {
    const forward = log ? Math.log10 : (v) => v;
    let a = forward(low), b = forward(high);
    if (!(b > a)) [a, b] = [a - 0.5, b + 0.5];
    const place = (v) => from + ((forward(v) - a) / (b - a)) * (to - from);
    const back = log ? (v) => 10 ** v : (v) => v;
    const ticks = (log ? logTicks : linearTicks)(back(a), back(b), count);
    return { place, ticks };
  }

  /**
   * Draws axes into a figure and returns where to draw.
   *
   * frame: { x: {label, low, high, log, ticks}, y: the same, height, describe }
   */
  function axes(figure, frame) {
    const width = Math.max(260, figure.clientWidth || 600), height = frame.height || (width < 480 ? 270 : 330);
    const bottom = height - 44, top = 10, right = width - 12;
    const y = scale(frame.y.low, frame.y.high, frame.y.log, bottom, top, 5);
    const left = 34 + 7 * Math.max(...y.ticks.map((t) => short(t).length), 2);
    const x = scale(frame.x.low, frame.x.high, frame.x.log, left, right, width < 480 ? 5 : 8);
    if (frame.x.ticks) x.ticks = spaced(frame.x.ticks, x.place);
    const root = make('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': frame.describe });
    for (const tick of y.ticks) {
      const at = y.place(tick);
      root.append(make('line', { class: 'grid', x1: left, x2: right, y1: at, y2: at }));
      root.append(make('text', { class: 'tick-text', x: left - 6, y: at + 4, 'text-anchor': 'end' }, short(tick)));
    }
    for (const tick of x.ticks) {
      const at = x.place(tick);
      root.append(make('line', { class: 'grid', x1: at, x2: at, y1: bottom, y2: bottom + 5 }));
      root.append(make('text', { class: 'tick-text', x: at, y: bottom + 18, 'text-anchor': 'middle' }, short(tick)));
    }
    if (frame.y.zero && frame.y.low < 0 && frame.y.high > 0) {
      root.append(make('line', { class: 'zero', x1: left, x2: right, y1: y.place(0), y2: y.place(0) }));
    }
    if (frame.x.zero && frame.x.low < 0 && frame.x.high > 0) {
      root.append(make('line', { class: 'zero', x1: x.place(0), x2: x.place(0), y1: top, y2: bottom }));
    }
    root.append(make('text', { x: (left + right) / 2, y: height - 6, 'text-anchor': 'middle' }, frame.x.label));
    const middle = (top + bottom) / 2;
    const turned = { x: 12, y: middle, 'text-anchor': 'middle', transform: `rotate(-90 12 ${middle})` };
    root.append(make('text', turned, frame.y.label));
    figure.querySelector('svg')?.remove();
    figure.append(root);
    return { root, x: x.place, y: y.place, bottom, top, left, right };
  }

  /** Those of the ticks whose texts do not touch. */
  function spaced(ticks, place) {
    const kept = [], half = (tick) => 3.8 * short(tick).length + 3;
    for (const tick of ticks) {
      const last = kept.at(-1);
      if (last === undefined || place(tick) - half(tick) >= place(last) + half(last)) kept.push(tick);
    }
    return kept;
  }

  /** The text of a path through points; a null starts a new piece. */
  function path(points) {
    let pen = 'M';
    return points.map((point) => {
      if (!point) { pen = 'M'; return ''; }
      const text = `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
      pen = 'L';
      return text;
    }).join('');
  }

  /** A marker whose shape belongs to a series: circle, square, triangle, diamond, cross-turned square. */
  function mark(shape, x, y, hollow, title) {
    const shapes = [
      'M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0', 'M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0', 'M-3.6 -3.6h7.2v7.2h-7.2z',
      'M0 -4.6L4.4 3.4H-4.4z', 'M0 -5L5 0L0 5L-5 0z',
    ];
    const d = shapes[shape % shapes.length];
    const found = make('path', { class: hollow ? 'mark hollow' : 'mark', d, transform: `translate(${x} ${y})` });
    if (title) found.append(make('title', {}, title));
    return found;
  }

  /** Says in a figure why it is empty. */
  function empty(figure, sentence) {
    figure.querySelector('svg')?.remove();
    const root = make('svg', { viewBox: '0 0 400 60', role: 'img', 'aria-label': sentence });
    root.append(make('text', { class: 'empty', x: 4, y: 30 }, sentence));
    figure.append(root);
  }

  return { make, axes, path, mark, short, exact, empty };
})();
