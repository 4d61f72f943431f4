'use strict';
const EVERY = 2000, KEPT = 150, TOKEN = 'tandem.admin.token';
const at = id => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';

/* Questions to the proxy. */

class Refused extends Error {
  constructor(code, body) { super(body.message || `the proxy answers ${code}`); this.code = code; this.body = body; }
}

let asking = null;
function askToken(wrong) {
  if (asking) return asking;
  const dialog = at('ask-token');
  at('token-wrong').hidden = !wrong;
  asking = new Promise(done => {
    const finish = () => {
      const token = at('token').value.trim();
      if (!token) { dialog.showModal(); return; }
      dialog.removeEventListener('close', finish);
      sessionStorage.setItem(TOKEN, token);
      at('token').value = '';
      asking = null;
      done();
    };
    dialog.addEventListener('close', finish);
    dialog.showModal();
  });
  return asking;
}

async function send(method, path, body) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN), headers = {};
    if (token) headers['x-admin-token'] = token;
    if (body) headers['content-type'] = 'application/json';
    const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: 'no-store' });
    if (answer.status !== 401) { at('forget').hidden = !token; return answer; }
    await askToken(token !== null);
  }
}

async function ask(method, path, body) {
  const answer = await send(method, path, body);
  const text = await answer.text();
  let json = {};
  try { json = JSON.parse(text); } catch { json = { message: text.slice(0, 300) }; }
  if (!answer.ok && !(answer.status === 503 && json.data && method === 'GET')) throw new Refused(answer.status, json);
  return json.data === undefined ? json : json.data;
}

/* Texts. */

const number = value => value === null || value === undefined ? '–' : Math.round(value).toLocaleString('en');
const rate = value => value >= 100 ? number(value) : (+value.toFixed(1)).toString();
function bytes(value) {
  if (value === null || value === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let n = 0;
  while (value >= 1024 && n < 4) { value /= 1024; n++; }
  return `${n && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[n]}`;
}
function ms(value) {
  if (value === null || value === undefined) return '–';
  if (value >= 1000) return `${(value / 1000).toFixed(value >= 100000 ? 0 : 1)} s`;
  return `${value >= 100 ? Math.round(value) : +value.toPrecision(2)} ms`;
}
function ago(seconds) {
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
}
const words = name => { const plain = name.replace(/([A-Z])/g, ' $1').replaceAll('_', ' ').toLowerCase(); return plain[0].toUpperCase() + plain.slice(1); };
function text(id, value, kind) {
  const element = at(id);
  if (element.textContent !== value) element.textContent = value;
  if (kind !== undefined) { element.classList.remove('good', 'warn', 'bad'); if (kind) element.classList.add(kind); }
}
function list(id, rows) {
  const shown = rows.filter(([, value]) => value !== undefined && value !== null && value !== '');
  at(id).replaceChildren(...shown.flatMap(([name, value]) => {
    const dt = document.createElement('dt'), dd = document.createElement('dd');
    dt.textContent = name; dd.textContent = value;
    return [dt, dd];
  }));
}

/* Charts. */

class Chart {
  constructor(name, format, top) {
    this.card = document.querySelector(`[data-chart=${name}]`);
    this.format = format; this.least = top; this.series = []; this.at = null;
    this.svg = document.createElementNS(SVG, 'svg');
    this.legend = document.createElement('div');
    this.legend.className = 'legend';
    this.card.append(this.svg, this.legend);
    this.svg.addEventListener('pointermove', event => {
      const box = this.svg.getBoundingClientRect();
      this.at = Math.round((event.clientX - box.left - 48) / (box.width - 48) * (KEPT - 1));
      this.draw();
    });
    this.svg.addEventListener('pointerleave', () => { this.at = null; this.draw(); });
  }
  push(values) {
    for (const [n, [name, value]] of Object.entries(values).entries()) {
      this.series[n] ||= { name, points: Array(KEPT).fill(null) };
      this.series[n].points.push(value);
      this.series[n].points.shift();
    }
    this.draw();
  }
  element(name, attributes) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    this.svg.append(element);
    return element;
  }
  draw() {
    const width = this.svg.clientWidth || 600, height = 150, left = 48, foot = 18;
    this.svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.svg.replaceChildren();
    const known = this.series.flatMap(({ points }) => points).filter(value => value !== null);
    const top = nice(Math.max(this.least, ...known));
    const x = n => left + n / (KEPT - 1) * (width - left), y = value => (height - foot) * (1 - value / top) + 4;
    for (const part of [0, .5, 1]) {
      this.element('line', { class: 'grid', x1: left, x2: width, y1: y(top * part), y2: y(top * part) });
      this.element('text', { class: 'axis', x: left - 6, y: y(top * part) + 4, 'text-anchor': 'end' }).textContent = this.format(top * part);
    }
    this.series.forEach(({ points }, n) => {
      for (const run of runs(points)) {
        const line = run.map(([n, value], i) => `${i ? 'L' : 'M'}${x(n).toFixed(1)},${y(value).toFixed(1)}`).join('');
        if (n === 0) this.element('path', { class: `area s${n}`, d: `${line}L${x(run.at(-1)[0]).toFixed(1)},${y(0)}L${x(run[0][0]).toFixed(1)},${y(0)}Z` });
        this.element('path', { class: `s${n}`, d: run.length > 1 ? line : `${line}h1` });
      }
    });
    const minutes = KEPT * EVERY / 60000;
    this.element('text', { class: 'axis', x: left, y: height - 1 }).textContent = `${minutes} min ago`;
    this.element('text', { class: 'axis', x: width, y: height - 1, 'text-anchor': 'end' }).textContent = 'now';
    const shown = this.at !== null && this.at >= 0 && this.at < KEPT ? this.at : KEPT - 1;
    if (this.at !== null && shown === this.at) this.element('line', { class: 'cursor', x1: x(shown), x2: x(shown), y1: y(top), y2: y(0) });
    this.legend.replaceChildren(...this.series.map(({ name, points }, n) => {
      const span = document.createElement('span'), value = document.createElement('b');
      span.className = `s${n}`;
      value.textContent = points[shown] === null ? '–' : this.format(points[shown]);
      span.append(`${name} `, value);
      return span;
    }));
  }
}
/* 1, 2 or 5 times a power of ten. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map(n => n * power).find(n => n >= value * .999);
}
/* Stretches without gaps, as pairs of index and value. */
function runs(points) {
  const found = [];
  let run = null;
  points.forEach((value, n) => {
    if (value === null) { run = null; return; }
    if (!run) found.push(run = []);
    run.push([n, value]);
  });
  return found;
}

const charts = {
  operations: new Chart('operations', value => `${rate(value)}/s`, 10),
  latency: new Chart('latency', ms, .1),
  hits: new Chart('hits', value => `${Math.round(value * 100)} %`, 1),
  lag: new Chart('lag', ms, 1),
};

/* The text of /metrics, as a map from name and labels to value. */
function parse(page) {
  const found = new Map();
  for (const line of page.split('\n')) {
    const space = line.lastIndexOf(' ');
    if (line && !line.startsWith('#')) found.set(line.slice(0, space), +line.slice(space + 1));
  }
  return found;
}
/* Of what was counted between two readings of a histogram; in ms. */
function quantile(q, name, labels, before, now) {
  const start = `${name}_bucket{${labels}`, steps = [];
  for (const [key, value] of now) {
    if (!key.startsWith(start)) continue;
    const le = key.match(/le="([^"]+)"/)[1];
    steps.push([le === '+Inf' ? Infinity : +le, value - (before.get(key) || 0)]);
  }
  steps.sort(([a], [b]) => a - b);
  const all = steps.length ? steps.at(-1)[1] : 0;
  if (all <= 0) return null;
  let [low, under] = [0, 0];
  for (const [le, count] of steps) {
    if (count >= q * all) {
      if (le === Infinity) return low * 1e3;
      return (low + (le - low) * (q * all - under) / (count - under)) * 1e3;
    }
    [low, under] = [le, count];
  }
  return null;
}

/* What is shown. */

let last = null;
async function charted() {
  const [metrics, page] = await Promise.all([
    ask('GET', '/admin/database/metrics'),
    send('GET', '/metrics').then(answer => answer.ok ? answer.text() : ''),
  ]);
  const now = parse(page);
  charts.operations.push({ operations: metrics.operations.perSecond, errors: metrics.errors.perSecond });
  charts.lag.push({ lag: metrics.mirror.lagMs });
  const old = last;
  last = { now, hits: metrics.cache.hits, misses: metrics.cache.misses };
  if (!old) return;
  const q = (of, kind) => quantile(of, 'tandem_operation_seconds', `class="${kind}"`, old.now, now);
  charts.latency.push({ 'read p50': q(.5, 'read'), 'read p99': q(.99, 'read'), 'write p50': q(.5, 'write'), 'write p99': q(.99, 'write') });
  const hits = last.hits - old.hits, all = hits + last.misses - old.misses;
  charts.hits.push({ hits: last.hits !== null && all > 0 ? Math.min(1, Math.max(0, hits / all)) : null });
}

const MOOD = { healthy: 'good', degraded: 'warn', unhealthy: 'bad' };
function shown(status) {
  const { health, connectionPools: { redis, postgres }, mirror, strategy } = status;
  text('verdict', health.status, MOOD[health.status]);
  text('about', `${status.version} · ${status.role} · up ${ago(status.uptimeSeconds)} · ${number(health.stats.clients)} ${health.stats.clients === 1 ? 'client' : 'clients'}`);
  at('reasons').hidden = health.reasons.length === 0;
  at('reasons').replaceChildren(...health.reasons.map(reason => {
    const item = document.createElement('li');
    item.textContent = reason;
    return item;
  }));
  const led = health.mode === 'postgres_only';
  text('redis-state', health.databases.redis ? 'connected' : led ? 'not used' : 'away', health.databases.redis ? 'good' : led ? '' : 'bad');
  list('redis', [['Version', redis.version], ['Memory', bytes(redis.usedMemoryBytes)], ['Round trip', redis.roundTripMs === undefined ? null : ms(redis.roundTripMs)],
    ['Lanes', number(redis.lanes)], ['Pinned', number(redis.pinned)]]);
  const without = health.strategy === 'redis_only';
  text('postgres-state', postgres.connected ? 'connected' : without ? 'not used' : 'away', postgres.connected ? 'good' : without ? '' : 'bad');
  list('postgres', [['Version', postgres.version && postgres.version.split(' ')[0]], ['Round trip', postgres.roundTripMs === undefined ? null : ms(postgres.roundTripMs)],
    ['Sessions', number(postgres.totalCount)], ['Idle', number(postgres.idleCount)], ['Waiting for locks', number(postgres.waitingCount)]]);
  text('mirror-state', mirror.state, { streaming: 'good', off: '' }[mirror.state] ?? 'warn');
  list('mirror', [['Lag', mirror.state === 'off' ? null : `${bytes(mirror.lagBytes)}, ${ms(mirror.lagMs)}`], ['Spool', bytes(mirror.spoolBytes)],
    ['Snapshots', number(mirror.fullSyncs)], ['Conflicts', number(mirror.conflicts)], ['Brought back', number(mirror.restored)]]);
  text('mode', health.mode, health.mode === health.strategy ? 'good' : 'warn');
  list('strategy', [['In force', health.strategy], ['Configured', strategy.configured], ['Switched', strategy.switchedAt && `${ago((Date.now() - Date.parse(strategy.switchedAt)) / 1000)} ago by ${strategy.switchedBy}`], ['Switching to', strategy.switchingTo], ['Writes wait for', status.acknowledge === 'postgres' && status.holding ? 'PostgreSQL' : 'the server that answers']]);
  const to = at('to');
  if (!to.dataset.touched) to.value = health.strategy.replace('_', '-');
}

let running = null;
function jobs(all) {
  const newest = kind => all.filter(kind).sort((a, b) => b.id - a.id)[0];
  const check = newest(job => job.kind === 'consistency-check');
  const copy = newest(job => job.kind !== 'consistency-check');
  const done = job => job.progress.total ? `${number(job.progress.done)} of ${number(job.progress.total)}` : number(job.progress.done);
  const when = job => job.endedAt ? `${ago((Date.now() - Date.parse(job.endedAt)) / 1000)} ago` : `since ${ago(job.seconds)}`;
  at('check-now').disabled = !!check && check.state === 'running';
  if (!check) { text('check-state', 'not checked yet', ''); list('check', []); }
  else {
    const { result } = check;
    text('check-state', result ? result.status : check.state, result ? { consistent: 'good', inconsistent: 'bad' }[result.status] ?? 'warn' : check.error ? 'bad' : '');
    const counts = result && result.counts;
    list('check', [['When', when(check)], ['Progress', result || check.error ? null : `${check.progress.phase} ${done(check)}`],
      ['Keys in Redis', counts && number(counts.redis)], ['Keys in PostgreSQL', counts && number(counts.postgres)],
      ['Missing in Redis', result && number(result.missing_in_redis)], ['Missing in PostgreSQL', result && number(result.missing_in_postgres)], ['Different', result && number(result.different)]]);
    text('check-note', check.error ? check.error.message : '');
    const rows = (result && result.differences || []).slice(0, 10);
    at('differences').hidden = rows.length === 0;
    at('differences').tBodies[0].replaceChildren(...rows.map(({ key, kind, detail }) => {
      const row = document.createElement('tr');
      for (const value of [key, detail || kind.replaceAll('_', ' ')]) row.insertCell().textContent = value;
      return row;
    }));
    at('advice').replaceChildren(...(result && result.recommendations || []).map(advice => {
      const item = document.createElement('li');
      item.textContent = advice;
      return item;
    }));
  }
  running = copy && copy.state === 'running' ? copy.id : null;
  at('cancel').hidden = running === null;
  for (const id of ['to-postgres', 'to-redis']) at(id).disabled = running !== null;
  const bar = at('sync-progress');
  bar.hidden = running === null;
  if (!copy) { text('sync-state', 'nothing has run yet', ''); list('sync', []); return; }
  if (copy.progress.total) bar.value = Math.min(1, copy.progress.done / copy.progress.total); else bar.removeAttribute('value');
  text('sync-state', `${copy.kind.replaceAll('-', ' ')}: ${copy.state}`, copy.error ? 'bad' : copy.result ? 'good' : '');
  const counts = Object.entries(copy.result || copy.progress.counts || {}).filter(([name, value]) => typeof value === 'number' && name !== 'total');
  list('sync', [['When', when(copy)], ['Keys', done(copy)], ...counts.map(([name, value]) => [words(name), number(value)])]);
  text('sync-note', copy.error ? copy.error.message : copy.result && copy.result.message || '');
}

async function jobbed() {
  try {
    jobs((await ask('GET', '/admin/jobs')).jobs || []);
  } catch (error) {
    if (!(error instanceof Refused) || error.code !== 404) throw error;
    for (const id of ['check-state', 'sync-state']) text(id, 'not available', '');
    for (const id of ['check-now', 'to-postgres', 'to-redis']) at(id).disabled = true;
  }
}

let failed = 0;
async function turn() {
  try {
    const [status] = await Promise.all([ask('GET', '/admin/database/status'), charted(), jobbed()]);
    shown(status);
    document.querySelector('main').hidden = false;
    at('trouble').hidden = true;
    text('updated', new Date().toLocaleTimeString());
    if (failed) failed = 0;
  } catch (error) {
    failed++;
    last = null;
    text('verdict', 'no answer', 'bad');
    at('trouble').hidden = false;
    at('trouble').className = 'banner bad';
    text('trouble', error instanceof Refused ? error.message : `The proxy does not answer (${error.message}). Trying again.`);
  }
  setTimeout(turn, EVERY);
}

/* What can be done. */

function confirmed(title, what, yes) {
  text('confirm-title', title); text('confirm-text', what); text('confirm-yes', yes);
  const dialog = at('confirm');
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise(done => dialog.addEventListener('close', () => done(dialog.returnValue === 'yes'), { once: true }));
}

async function act(note, button, work) {
  button.disabled = true;
  try {
    const answer = await work();
    text(note, answer.message || '', '');
  } catch (error) {
    text(note, error.code === 404 ? 'Not available in this version.' : error.message, 'bad');
  }
  button.disabled = false;
  jobbed().catch(() => {});
}

at('to').addEventListener('change', event => { event.target.dataset.touched = 'yes'; });
at('switch').addEventListener('submit', async event => {
  event.preventDefault();
  const name = at('to').value;
  const button = at('switch').querySelector('button');
  if (!await confirmed(`Switch to ${name.replace('-', '_')}?`, 'Clients stay connected. The switch is remembered across restarts.', 'Switch')) return;
  await act('switched', button, () => ask('POST', `/admin/database/strategy/${name}`));
  delete at('to').dataset.touched;
});
at('check-now').addEventListener('click', event =>
  act('check-note', event.target, async () => { await ask('GET', '/admin/database/consistency-check?wait=false'); return {}; }));
for (const [id, path, what] of [
  ['to-postgres', 'redis-to-postgres', 'PostgreSQL gets what it lacks or has otherwise. Nothing is deleted.'],
  ['to-redis', 'postgres-to-redis', 'Redis gets what it lacks. Nothing is overwritten or deleted.'],
]) {
  at(id).addEventListener('click', async event => {
    const button = event.target;
    if (!await confirmed(button.textContent, what, 'Start')) return;
    await act('sync-note', button, async () => { await ask('POST', `/admin/database/sync/${path}?wait=false`, {}); return {}; });
  });
}
at('cancel').addEventListener('click', event =>
  act('sync-note', event.target, async () => { if (running !== null) await ask('DELETE', `/admin/jobs/${running}`); return {}; }));
at('forget').addEventListener('click', () => { sessionStorage.removeItem(TOKEN); location.reload(); });
addEventListener('resize', () => Object.values(charts).forEach(chart => chart.draw()));
turn();
