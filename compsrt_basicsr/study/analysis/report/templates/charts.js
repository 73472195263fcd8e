'use strict';
// What is drawn: distributions, depth, sweep of eps, mechanism. Every function redraws one figure from its options.

const charts = (() => {
  const order = ['none', 'auto', 'padded', 'dct', 'random'];
  const shape = (name) => Math.max(0, order.indexOf(name));
  const group = (name) => svg.make('g', { class: `s-${name}` });

  /** [least, greatest] of values, with a margin; on a log scale of the positive ones. */
  function extent(values, log, margin = 0.05) {
    const kept = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
    if (!kept.length) return null;
    const low = kept.reduce((a, b) => Math.min(a, b)), high = kept.reduce((a, b) => Math.max(a, b));
    if (log) return [low / 1.15, high * 1.15];
    const room = (high - low) * margin || Math.abs(high) * margin || 1;
    return [low - room, high + room];
  }

  /** Density of a histogram, share of the values per unit, and the edges between which it holds. */
  function density(entry) {
    const [low, high] = entry.edges, bins = entry.counts.length, width = (high - low) / bins;
    const total = entry.counts.reduce((a, b) => a + b, 0);
    return { low, width, heights: entry.counts.map((count) => count / total / width) };
  }

  function distribution(figure, tensor, transforms, log) {
    const found = transforms.map(({ name, label }) => ({ name, label, ...density(tensor.by[name]) }));
    if (!found.length) return svg.empty(figure, 'Nothing is chosen.');
    const heights = found.flatMap((f) => f.heights.filter((h) => h > 0));
    const most = Math.max(...heights), least = Math.min(...heights);
    const frame = svg.axes(figure, {
      x: {
        label: 'value or coefficient (no unit)', zero: false,
        low: Math.min(...found.map((f) => f.low)), high: Math.max(...found.map((f) => f.low + f.width * f.heights.length)),
      },
      y: { label: 'density (share per unit)', log, low: log ? least / 2 : 0, high: log ? most * 1.5 : most * 1.05 },
      describe: `Distribution of ${tensor.label} under ${found.map((f) => f.label).join(', ')}`,
    });
    const floor = (h) => (log ? Math.max(h, least / 2) : h);
    for (const f of found) {
      const points = f.heights.flatMap((h, i) => [f.low + i * f.width, f.low + (i + 1) * f.width].map(
        (x) => [frame.x(x), frame.y(floor(h))]));
      const outline = [[points[0][0], frame.bottom], ...points, [points.at(-1)[0], frame.bottom]];
      const g = group(f.name);
      if (f.name === 'none') g.append(svg.make('path', { class: 'area', d: svg.path(outline) + 'Z' }));
      g.append(svg.make('path', { class: 'line', d: svg.path(outline) }));
      frame.root.append(g);
    }
  }

  function median(values) {
    const kept = values.filter(Number.isFinite).sort((a, b) => a - b), half = kept.length >> 1;
    if (!kept.length) return NaN;
    return kept.length % 2 ? kept[half] : (kept[half - 1] + kept[half]) / 2;
  }

  /** Medians over tensors of the same depth, a line for each transform; measure: {label, of(tensor, transform)}. */
  function depth(figure, tensors, transforms, measure, log) {
    const depths = [...new Set(tensors.map((t) => t.depth))].sort((a, b) => a - b);
    const lines = transforms.map(({ name, label }) => ({
      name, label,
      values: depths.map((d) => median(tensors.filter((t) => t.depth === d).map((t) => measure.of(t, name)))),
    }));
    const range = extent(lines.flatMap((l) => l.values), log);
    if (!range) {
      svg.empty(figure, 'No value can be shown here.');
      return 0;
    }
    const frame = svg.axes(figure, {
      x: { label: 'block, from the input', low: depths[0] - 0.5, high: depths.at(-1) + 0.5, ticks: depths },
      y: { label: measure.label, log, low: range[0], high: range[1], zero: true },
      describe: `${measure.label} across depth under ${transforms.map((t) => t.label).join(', ')}`,
    });
    const shown = (v) => Number.isFinite(v) && (!log || v > 0);
    for (const line of lines) {
      const g = group(line.name);
      const points = line.values.map((v, i) => (shown(v) ? [frame.x(depths[i]), frame.y(v)] : null));
      g.append(svg.make('path', { class: 'line', d: svg.path(points) }));
      points.forEach((p, i) => p && g.append(
        svg.mark(shape(line.name), p[0], p[1], false, `${line.label}, block ${depths[i]}: ${svg.short(line.values[i])}`)));
      frame.root.append(g);
    }
    return lines.flatMap((l) => l.values).filter((v) => Number.isFinite(v) && !shown(v)).length;
  }

  /** Change of the mean share within eps with its interval; filled markers: the claim holds after Holm. */
  function epsChange(figure, tests, transforms, level, label, name) {
    if (!tests.length) return svg.empty(figure, 'Nothing was tested.');
    const eps = [...new Set(tests.map((t) => t.at))].sort((a, b) => a - b);
    const range = extent(tests.flatMap((t) => [100 * t.low, 100 * t.high, 0]), false);
    const frame = svg.axes(figure, {
      x: { label, log: true, low: eps[0] / 1.5, high: eps.at(-1) * 1.5, ticks: eps },
      y: { label: 'change of share (percentage points)', low: range[0], high: range[1], zero: true },
      describe: `Change of the share of ${name} within eps, against no transform`,
    });
    transforms.forEach((transform, index) => {
      const own = tests.filter((t) => t.transform === transform.name).sort((a, b) => a.at - b.at);
      const g = group(transform.name), shift = 5 * (index - (transforms.length - 1) / 2);
      const at = (t) => frame.x(t.at) + shift;
      g.append(svg.make('path', { class: 'line', d: svg.path(own.map((t) => [at(t), frame.y(100 * t.mean)])) }));
      for (const t of own) {
        const x = at(t);
        g.append(svg.make('line', { class: 'bar', x1: x, x2: x, y1: frame.y(100 * t.low), y2: frame.y(100 * t.high) }));
        const holds = t.holm_p <= level && t.mean > 0;
        const title = `${transform.label}, ε = ${svg.short(t.at)}: ${svg.short(100 * t.mean)} points, `
          + `${svg.short(100 * t.low)} to ${svg.short(100 * t.high)}; p ${svg.short(t.holm_p)} after Holm`;
        g.append(svg.mark(shape(transform.name), x, frame.y(100 * t.mean), !holds, title));
      }
      frame.root.append(g);
    });
  }

  /** Mean share within eps of all tensors, a line for each transform. */
  function epsShare(figure, tensors, transforms, measure, eps, label, name) {
    const lines = transforms.map((t) => ({
      ...t, values: eps.map((_, i) => 100 * tensors.reduce((sum, tensor) => sum + tensor.by[t.name][measure][i], 0)
        / tensors.length),
    }));
    const frame = svg.axes(figure, {
      x: { label, log: true, low: eps[0] / 1.2, high: eps.at(-1) * 1.2, ticks: eps },
      y: { label: 'share of the values (%)', low: 0, high: Math.max(...lines.flatMap((l) => l.values)) * 1.05 },
      describe: `Share of ${name} within eps`,
    });
    for (const line of lines) {
      const g = group(line.name), points = line.values.map((v, i) => [frame.x(eps[i]), frame.y(v)]);
      g.append(svg.make('path', { class: 'line', d: svg.path(points) }));
      points.forEach(([x, y], i) => g.append(svg.mark(
        shape(line.name), x, y, false, `${line.label}, ε = ${svg.short(eps[i])}: ${svg.short(line.values[i])}%`)));
      frame.root.append(g);
    }
  }

  /** A dot for each tensor: predictor against gain. */
  function scatter(figure, tensors, transform, predictor, bits) {
    const dots = tensors.map((t) => ({
      label: t.label, x: predictor.of(t, transform.name), y: t.by[transform.name].sqnr[bits] - t.by.none.sqnr[bits],
    })).filter((d) => Number.isFinite(d.x) && Number.isFinite(d.y));
    if (!dots.length) return svg.empty(figure, 'No value can be shown here.');
    const across = extent([...dots.map((d) => d.x), 0]), up = extent([...dots.map((d) => d.y), 0]);
    const frame = svg.axes(figure, {
      x: { label: predictor.label, low: across[0], high: across[1], zero: true },
      y: { label: `gain in SQNR at ${bits} bits (dB)`, low: up[0], high: up[1], zero: true },
      describe: `Gain in SQNR against ${predictor.label}, ${transform.label}, ${dots.length} tensors`,
    });
    const g = group(transform.name);
    for (const d of dots) {
      const dot = svg.make('circle', { class: 'dot', cx: frame.x(d.x), cy: frame.y(d.y), r: 3.6 });
      dot.append(svg.make('title', {}, `${d.label}: ${svg.short(d.x)}, ${svg.short(d.y)} dB`));
      g.append(dot);
    }
    frame.root.append(g);
  }

  return { distribution, depth, epsChange, epsShare, scatter, shape };
})();
