'use strict';
// The page at work: its controls, filters and sorting.

const page = document.documentElement;

function failed(message) {
  page.dataset.errors = Number(page.dataset.errors) + 1;
  const place = document.getElementById('failure');
  place.hidden = false;
  place.textContent = `A part of this page failed (${message}); tables and summary are complete.`;
}
addEventListener('error', (event) => failed(event.message));

(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const by = (id) => document.getElementById(id);
  const distinct = data.tensors.filter((t) => !t.twin);
  const kinds = Object.keys(data.kinds);
  const others = data.transforms.slice(1);
  const bits = Object.keys(distinct[0]?.by.none.sqnr ?? {});
  const usual = bits.includes('4') ? '4' : bits[0];

  function make(name, properties = {}, ...children) {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  }

  function fill(select, options) {
    select.replaceChildren(...options.map(({ value, label }) => make('option', { value, textContent: label })));
  }

  function key(name) {
    const line = svg.make('svg', { class: `s-${name}`, viewBox: '0 0 34 12', 'aria-hidden': 'true' });
    line.append(svg.make('line', { x1: 1, x2: 33, y1: 6, y2: 6 }));
    return line;
  }

  function keys(transforms, withMarks) {
    return make('ul', { className: 'keys' }, ...transforms.map(({ name, label }) => {
      const line = key(name);
      if (withMarks) line.append(svg.mark(charts.shape(name), 17, 6, false));
      return make('li', {}, line, label);
    }));
  }

  function figure(host, caption) {
    const found = make('figure', { className: 'chart' }, make('figcaption', { textContent: caption }));
    host.append(found);
    return found;
  }

  // Distributions
  const shown = new Set(data.transforms.slice(0, 2).map((t) => t.name));
  const tensorSelect = by('tensor');

  function listTensors() {
    const words = by('find').value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    const matches = data.tensors.map((t, i) => ({ t, i })).filter(({ t }) => {
      const text = ` ${t.label} ${t.name} `.toLowerCase();
      return words.every((word) => (/^\d+$/.test(word) ? text.includes(` ${word},`) : text.includes(word)));
    });
    const kept = tensorSelect.value;
    fill(tensorSelect, matches.map(({ t, i }) => ({ value: i, label: `${t.label} (${t.name})` })));
    if (!matches.length) fill(tensorSelect, [{ value: '', label: 'no tensor is named like that' }]);
    if (matches.some(({ i }) => String(i) === kept)) tensorSelect.value = kept;
    drawTensor();
  }

  function drawTensor() {
    const tensor = data.tensors[tensorSelect.value === '' ? -1 : tensorSelect.value];
    by('previous').disabled = tensorSelect.selectedIndex <= 0;
    by('next').disabled = tensorSelect.selectedIndex >= tensorSelect.length - 1;
    if (!tensor) {
      svg.empty(by('chart-distribution'), 'No tensor is chosen.');
      by('measures').replaceChildren();
      return;
    }
    const chosen = data.transforms.filter((t) => shown.has(t.name));
    charts.distribution(by('chart-distribution'), tensor, chosen, by('log-density').checked);
    measureTable(tensor);
  }

  function measureTable(tensor) {
    const near = (name) => data.eps[name].map((eps, i) => [
      `within ±${svg.short(eps)}${name === 'near_rel' ? ' σ' : ''} (%)`, (e) => 100 * e[name][i],
    ])[data.eps_shown[name]] ?? [];
    const rows = [
      ['least', (e) => e.min], ['greatest', (e) => e.max], ['range', (e) => e.range],
      ['standard deviation σ', (e) => e.std], ['excess kurtosis', (e) => e.kurtosis],
      ['crest factor', (e) => e.crest], ['outliers (%)', (e) => 100 * e.outliers],
      ['incoherence μ', (e) => e.incoherence], near('near_abs'), near('near_rel'),
      ...bits.map((b) => [`SQNR at ${b} bits (dB)`, (e) => e.sqnr[b]]),
    ].filter((row) => row.length);
    const heads = data.transforms.map((t) => make('th', { scope: 'col', className: 'n', textContent: t.label }));
    const cell = (v) => make('td', { className: 'n', textContent: Number.isFinite(v) ? svg.exact(v) : '–' });
    by('measures').replaceChildren(
      make('thead', {}, make('tr', {}, make('th', { scope: 'col', textContent: 'measure' }), ...heads)),
      make('tbody', {}, ...rows.map(([name, of]) => make('tr', {}, make('th', { scope: 'row', textContent: name }),
        ...data.transforms.map((t) => cell(of(tensor.by[t.name])))))),
    );
  }

  function step(by_) {
    tensorSelect.selectedIndex += by_;
    drawTensor();
  }

  function setUpDistributions() {
    for (const { name, label } of data.transforms) {
      const box = make('input', { type: 'checkbox', checked: shown.has(name) });
      box.addEventListener('change', () => {
        shown[box.checked ? 'add' : 'delete'](name);
        drawTensor();
      });
      by('shown').append(make('label', {}, box, key(name), label));
    }
    by('find').addEventListener('input', listTensors);
    tensorSelect.addEventListener('change', drawTensor);
    by('log-density').addEventListener('change', drawTensor);
    by('previous').addEventListener('click', () => step(-1));
    by('next').addEventListener('click', () => step(1));
    listTensors();
  }

  // Depth
  const gain = (b) => (t, name) => t.by[name].sqnr[b] - t.by.none.sqnr[b];
  const measures = [
    { label: 'range, max − min (no unit)', of: (t, n) => t.by[n].range },
    ...bits.map((b) => ({ label: `SQNR at ${b} bits (dB)`, of: (t, n) => t.by[n].sqnr[b] })),
    ...bits.map((b) => ({ label: `gain in SQNR at ${b} bits (dB)`, of: gain(b) })),
    { label: 'standard deviation (no unit)', of: (t, n) => t.by[n].std },
    { label: 'excess kurtosis (no unit)', of: (t, n) => t.by[n].kurtosis },
    { label: 'crest factor (no unit)', of: (t, n) => t.by[n].crest },
    { label: 'outliers (%)', of: (t, n) => 100 * t.by[n].outliers },
    ...data.eps.near_abs.map((e, i) => ({ label: `within ±${e} (%)`, of: (t, n) => 100 * t.by[n].near_abs[i] })),
    ...data.eps.near_rel.map((e, i) => ({ label: `within ±${e} σ (%)`, of: (t, n) => 100 * t.by[n].near_rel[i] })),
  ];
  const roles = kinds.flatMap((kind) => {
    const own = distinct.filter((t) => t.kind === kind);
    const named = [...new Set(own.map((t) => t.role))].map((role) => ({
      label: `${data.kinds[kind]}: ${role}`, tensors: own.filter((t) => t.role === role),
    }));
    return [{ label: `${data.kinds[kind]}: all, median of each block`, tensors: own }, ...named];
  });

  function drawDepth() {
    const measure = measures[by('depth-measure').value], role = roles[by('depth-role').value];
    const log = by('log-depth').checked;
    const transforms = measure.label.startsWith('gain') ? others : data.transforms;
    const lost = charts.depth(by('chart-depth'), role.tensors, transforms, measure, log);
    by('chart-depth').querySelector('.keys')?.remove();
    by('chart-depth').append(keys(transforms, true));
    by('depth-note').textContent = lost ? `${lost} points are not positive and have no place on a log scale.` : '';
  }

  // Mass near zero
  function drawEps() {
    const measure = by('eps-kind').value, change = by('eps-view').value === 'change';
    const label = measure === 'near_abs' ? 'ε (no unit)' : 'ε (standard deviations)';
    const host = by('charts-eps');
    host.replaceChildren();
    const places = kinds.map((kind) => figure(host, data.kinds[kind])); // all, so that each has its width
    for (const [index, kind] of kinds.entries()) {
      const place = places[index];
      if (change) {
        const tests = data.sweeps.filter((t) => t.kind === kind && t.measure === measure);
        charts.epsChange(place, tests, others, data.level, label, data.kinds[kind]);
      } else {
        const own = distinct.filter((t) => t.kind === kind);
        charts.epsShare(place, own, data.transforms, measure, data.eps[measure], label, data.kinds[kind]);
      }
      place.append(keys(change ? others : data.transforms, true));
    }
    by('eps-note').textContent = change
      ? `Mean change over the tensors with its 95% bootstrap interval. Filled marker: p ≤ ${data.level} after Holm, and `
        + 'more mass as claimed; hollow: not shown.'
      : 'Mean over the tensors.';
  }

  // Mechanism
  const predictors = [
    { name: 'range', at: null, label: 'fall of the range (octaves: log₂ before/after)', of: (t, n) => Math.log2(t.by.none.range / t.by[n].range) },
    { name: 'kurtosis', at: null, label: 'fall of the excess kurtosis', of: (t, n) => (t.by[n].kurtosis === null || t.by.none.kurtosis === null ? NaN : t.by.none.kurtosis - t.by[n].kurtosis) },
    ...['near_abs', 'near_rel'].flatMap((name) => data.eps[name].map((eps, i) => ({
      name, at: eps, label: `more within ±${eps}${name === 'near_rel' ? ' σ' : ''} (percentage points)`,
      of: (t, n) => 100 * (t.by[n][name][i] - t.by.none[name][i]),
    }))),
  ];

  function drawMechanism() {
    const predictor = predictors[by('predictor').value];
    const transform = others[by('mechanism-transform').value], level = by('mechanism-bits').value;
    const host = by('charts-mechanism');
    host.replaceChildren();
    const places = kinds.map((kind) => figure(host, data.kinds[kind]));
    for (const [index, kind] of kinds.entries()) {
      const row = data.correlations.find((r) => r.kind === kind && r.transform === transform.name
        && r.predictor === predictor.name && r.at === predictor.at && String(r.bits) === level);
      const two = (v) => v.toFixed(2).replace('-', '−');
      const rho = row ? `: ρ = ${two(row.rho)}, 95% interval ${two(row.low)} to ${two(row.high)}, ${row.n} tensors` : '';
      places[index].firstChild.textContent += rho;
      charts.scatter(places[index], distinct.filter((t) => t.kind === kind), transform, predictor, level);
    }
  }

  // Tables
  function setUpFilters(bar) {
    const rows = [...by(bar.dataset.filters).tBodies[0].rows];
    const selects = [...bar.querySelectorAll('select')];
    const apply = () => {
      for (const row of rows) {
        row.hidden = selects.some((s) => s.value && row.getAttribute(`data-${s.dataset.filter}`) !== s.value);
      }
      bar.querySelector('.count').textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
    };
    selects.forEach((select) => select.addEventListener('change', apply));
    apply();
  }

  function setUpSorting(table) {
    const heads = [...table.tHead.rows[0].cells];
    const value = (row, column) => {
      const cell = row.cells[column];
      return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
    };
    heads.forEach((head, column) => head.querySelector('button').addEventListener('click', () => {
      const sign = head.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
      heads.forEach((other) => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
      const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
      const compare = (a, b) => (typeof a === 'number' ? a - b : a.localeCompare(b));
      rows.sort(([a], [b]) => sign * compare(a, b));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    }));
  }

  function setUpSelects() {
    fill(by('depth-measure'), measures.map((m, i) => ({ value: i, label: m.label })));
    fill(by('depth-role'), roles.map((r, i) => ({ value: i, label: r.label })));
    fill(by('predictor'), predictors.map((p, i) => ({ value: i, label: p.label })));
    fill(by('mechanism-transform'), others.map((t, i) => ({ value: i, label: t.label })));
    fill(by('mechanism-bits'), bits.map((b) => ({ value: b, label: b })));
    by('mechanism-bits').value = usual;
    for (const [draw, ids] of [
      [drawDepth, ['depth-measure', 'depth-role', 'log-depth']],
      [drawEps, ['eps-kind', 'eps-view']],
      [drawMechanism, ['predictor', 'mechanism-transform', 'mechanism-bits']],
    ]) ids.forEach((id) => by(id).addEventListener('change', draw));
  }

  document.querySelectorAll('[data-filters]').forEach(setUpFilters);
  document.querySelectorAll('.sortable').forEach(setUpSorting);
  if (!distinct.length) {
    ['distributions', 'depth', 'near-zero', 'mechanism'].forEach((id) => { by(id).hidden = true; });
  } else {
    setUpSelects();
    setUpDistributions();
    const draws = [drawDepth, ...(others.length ? [drawEps, drawMechanism] : [])];
    draws.forEach((draw) => draw());
    ['near-zero', 'mechanism'].forEach((id) => { by(id).hidden = !others.length; });
    let width = innerWidth, pending;
    addEventListener('resize', () => {
      if (innerWidth === width) return;
      width = innerWidth;
      cancelAnimationFrame(pending);
      pending = requestAnimationFrame(() => [drawTensor, ...draws].forEach((draw) => draw()));
    });
  }
  page.dataset.ready = 'yes';
})();
