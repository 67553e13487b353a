/* Live without reloading: hears of news, decides when to ask for it, and notices when nobody answers any more.
   One WebSocket per tab that is opened again for as long as the tab lives; HTTP every two seconds where it cannot be. */
(function () {
    'use strict';
    const cm = Object.assign(window.cm, {
        feed: '',
        cursor: 0,
        heard: 0, // performance.now() of the last word from the dashboard; 0: none yet
        started: performance.now(),
        locked: false,
        silence: null, // seconds since the dashboard heard the server; null: never
        socket: null,
        socketHeard: 0,
        wanted: false,
        busy: new Map(),
        number: 0,
        latencies: [],
        pages: ['overview', 'map'], // further ones: places.js
        cares: () => false, // whether a page of no single run wants to hear of a change
        opened: [], // how long past steps took from the key to the screen, in milliseconds
        rest: null, // what frame and router are asked when the page has its answer
        routing: true, // whether another page may have to stand in the frame
        routed: null, // the address for which the router answered last
    });
    const PATIENCE = 4000; // a page that has not answered after this long is asked again
    const LEAD = 400; // the frame waits this long for the page at most
    const LAZY = 2000; // news wait this long while one looks at the past: they change nothing of that step
    const INSIDE = ['snapshot', 'alert', 'scalars', 'gap']; // news that never change which page stands in the frame

    cm.set = (id, props) => window.dash_clientside && window.dash_clientside.set_props(id, props);
    cm.place = () => {
        const parts = location.pathname.split('/').filter(Boolean).map(decodeURIComponent);
        return parts[0] === 'run' ? {run: parts[1] || null, page: parts[2] || 'overview'} : {run: null, page: parts[0] || 'runs'};
    };

    cm.pulse = (news) => {
        const now = performance.now();
        cm.feed = news.feed;
        cm.cursor = news.cursor;
        cm.silence = news.silence;
        cm.heard = now;
        cm.locked = false;
        const run = cm.place().run;
        const mine = news.changes.filter(([name, kind]) => name === '*' || name === run || kind === 'run' || cm.cares(name, kind));
        if (mine.length) cm.hear(mine.some(([, kind]) => !INSIDE.includes(kind)));
    };
    /* News, in the past at leisure: a key that opens another step shall not have to wait for them. */
    cm.hear = (routing) => {
        cm.routing = cm.routing || routing;
        if (cm.query('step') === null) cm.kick();
        else cm.later = cm.later || setTimeout(cm.kick, LAZY);
    };

    /* Asks the page, then the frame, for what is new, and the router if another page may be due; none of them twice at
       once. The page first: it is what one looks at, and the three would only share one processor. */
    cm.kick = () => {
        clearTimeout(cm.later);
        cm.later = null;
        cm.wanted = true;
        cm.flush();
    };
    cm.present = () => cm.pages.filter((name) => document.getElementById(name + '-page') && cm.place().page === name);
    cm.flush = () => {
        const now = performance.now();
        for (const [name, since] of cm.busy) if (now - since > PATIENCE) cm.busy.delete(name);
        if (document.hidden || !document.getElementById('app')) return;
        const pages = cm.present();
        if (cm.wanted && !pages.some((name) => cm.busy.has(name))) {
            cm.wanted = false;
            const data = {n: ++cm.number, webgl: cm.webgl(), zoom: cm.zoom || null, camera: cm.camera || null, silence: cm.silence};
            for (const name of pages) cm.ask(name, data);
            cm.rest = {data, ready: !pages.length || !!cm.rest}; // one that was never asked is owed: the frame must not starve
            if (pages.length) setTimeout(cm.ready, LEAD, data);
        }
        cm.askRest();
    };
    /* The page has its answer, or has waited long enough: now the frame's turn. */
    cm.ready = (data) => {
        if (!cm.rest || (data && cm.rest.data !== data)) return;
        cm.rest.ready = true;
        cm.askRest();
    };
    cm.askRest = () => {
        if (!cm.rest || !cm.rest.ready || cm.busy.has('frame') || cm.busy.has('route')) return;
        const {data} = cm.rest;
        cm.rest = null;
        cm.ask('frame', data);
        if (!cm.routing && cm.routed === location.pathname && cm.present().length) return;
        cm.routing = false;
        cm.routed = null; // until it has answered
        cm.asksRoute = location.pathname;
        cm.ask('route', data);
    };
    cm.ask = (name, data) => {
        cm.busy.set(name, performance.now());
        cm.set(name + '-now', {data});
    };
    cm.done = (name) => {
        cm.busy.delete(name);
        const data = cm.rest && cm.rest.data;
        if (name === 'route') cm.routed = cm.asksRoute;
        // The frame's answer would be drawn before the page is seen, so it is asked for when the page has been.
        if (name !== 'frame' && name !== 'route' && cm.rest) requestAnimationFrame(() => setTimeout(cm.ready, 0, data));
        cm.settled(name);
        cm.hook();
        cm.flush();
    };

    cm.webgl = () => {
        if (cm.hasWebgl === undefined) {
            try {
                const gl = document.createElement('canvas').getContext('webgl');
                const named = gl && gl.getExtension('WEBGL_debug_renderer_info');
                cm.hasWebgl = !!gl;
                cm.software = !!named && /SwiftShader|llvmpipe|software/i.test(gl.getParameter(named.UNMASKED_RENDERER_WEBGL));
            } catch (error) {
                cm.hasWebgl = false;
            }
        }
        return cm.hasWebgl;
    };
    /* Plotly draws WebGL at twice the screen's resolution. Without a graphics card each of those pixels is computed by the
       processor, several times per drawing, so there it is drawn as it is shown. */
    cm.plain = (plot, id) => {
        if (!cm.webgl() || !cm.software || plot._context.plotGlPixelRatio === 1) return;
        const names = ['displayModeBar', 'responsive', 'doubleClick', 'showTips', 'scrollZoom'];
        const config = Object.fromEntries(names.map((name) => [name, plot._context[name]]));
        cm.set(id, {config: Object.assign(config, {scrollZoom: id === 'map-graph', plotGlPixelRatio: 1})});
    };

    /* The socket: opened again after one to five seconds, for ever. */
    let wait = 1000;
    cm.connect = () => {
        const scheme = location.protocol === 'https:' ? 'wss://' : 'ws://';
        const socket = new WebSocket(`${scheme}${location.host}/live?feed_id=${cm.feed}&cursor=${cm.cursor}`);
        cm.socket = socket;
        socket.onmessage = (message) => {
            wait = 1000;
            cm.socketHeard = performance.now();
            cm.pulse(JSON.parse(message.data));
        };
        socket.onclose = () => {
            cm.socket = null;
            setTimeout(cm.connect, wait);
            wait = Math.min(5000, wait * 1.5);
        };
    };
    /* The fallback: only while the socket is silent. */
    cm.poll = () => {
        if (performance.now() - cm.socketHeard < 3000) return;
        fetch(`/pulse?feed_id=${cm.feed}&cursor=${cm.cursor}`)
            .then((answer) => {
                cm.locked = answer.status === 401; // restarted with another token, or the cookie is too old
                return answer.ok ? answer.json() : Promise.reject();
            })
            .then(cm.pulse)
            .catch(() => {}); // the chip says that nobody answers
    };
    cm.start = () => {
        if (cm.running) return;
        cm.running = true;
        cm.connect();
        document.addEventListener('visibilitychange', cm.flush);
    };

    /* Plots: clicks, one zoom for both step axes, and the time at which a snapshot stood on the screen. */
    cm.plot = (id) => document.querySelector(`#${id} .js-plotly-plot`);
    cm.hook = () => {
        for (const id of ['d-anchor-graph', 'scalars-graph', 'map-graph']) {
            const plot = cm.plot(id);
            if (!plot || plot.cmHooked || !plot.on) continue;
            plot.cmHooked = true;
            if (id === 'map-graph') cm.plain(plot, id);
            plot.on('plotly_afterplot', () => cm.onScreen(plot));
            if (id === 'map-graph') {
                cm.listen(plot);
                plot.on('plotly_afterplot', () => cm.label(plot));
                plot.on('plotly_relayouting', (change) => cm.moving(plot, change));
                for (const name of ['plotly_hover', 'plotly_unhover']) plot.on(name, () => cm.uncover(plot));
                cm.label(plot);
            } else {
                plot.on('plotly_relayout', (change) => cm.zoomed(id, change));
                plot.on('plotly_doubleclick', () => cm.unzoom());
            }
            cm.onScreen(plot);
        }
        const strip = document.getElementById('strip-graph');
        if (strip && !strip.cmHooked) {
            strip.cmHooked = true;
            cm.listenStrip(strip);
        }
    };
    /* Drawn is not yet seen: the time counts from the frame after the drawing. */
    cm.onScreen = (plot) => requestAnimationFrame(() => setTimeout(() => cm.seen(plot)));
    cm.seen = (plot) => {
        const meta = plot.layout && plot.layout.meta;
        if (!meta || !meta.sequence) return;
        cm.redrawn();
        cm.opening(meta);
        const last = cm.latencies[cm.latencies.length - 1];
        if (last && last.sequence >= meta.sequence) return;
        const ms = Date.now() - 1000 * meta.captured_at;
        cm.latencies.push({sequence: meta.sequence, drawn: Date.now(), ms});
        if (cm.latencies.length > 500) cm.latencies.shift();
        const place = document.getElementById('latency');
        if (!place || cm.latencies.length < 2 || ms > 60000) return; // the first is an old snapshot, not a delay
        place.textContent = `hook to page ${ms < 10000 ? Math.round(ms).toLocaleString('en') + ' ms' : (ms / 1000).toFixed(1) + ' s'}`;
        place.dataset.ms = Math.round(ms);
    };
    /* A past step stands on the screen: how long it took since it was asked for. */
    cm.opening = (meta) => {
        if (!cm.asked || cm.asked.step === null || Number(cm.asked.step) !== meta.step) return;
        cm.opened.push(performance.now() - cm.asked.at);
        if (cm.opened.length > 500) cm.opened.shift();
        cm.asked = null;
    };
    /* An error is shown until the same part answers again. */
    cm.settled = (name) => {
        const place = document.getElementById('problem');
        if (place && place.textContent && (place.dataset.part === name || !place.dataset.part)) cm.set('problem', {children: ''});
    };
    /* The neuron nearest to a click. Plotly's own click needs a hover before it, which a live redraw may just have ended,
       and stars would be in the way. */
    cm.nearest = (plot, x, y) => {
        const box = plot.getBoundingClientRect();
        const {xaxis, yaxis} = plot._fullLayout;
        let best = {distance: 14, unit: null};
        for (const trace of plot.data) {
            if (!trace.customdata || trace.visible === false || trace.visible === 'legendonly') continue;
            for (let i = 0; i < trace.customdata.length; i++) {
                const dx = box.left + xaxis._offset + xaxis.d2p(trace.x[i]) - x;
                const dy = box.top + yaxis._offset + yaxis.d2p(trace.y[i]) - y;
                const distance = Math.hypot(dx, dy);
                if (distance < best.distance) best = {distance, unit: trace.customdata[i]};
            }
        }
        return best.unit;
    };
    cm.listen = (plot) => {
        let down = null;
        plot.addEventListener('pointerdown', (event) => (down = [event.clientX, event.clientY]), true);
        window.addEventListener('pointerup', (event) => {
            const start = down;
            down = null;
            if (!start || event.button || Math.hypot(event.clientX - start[0], event.clientY - start[1]) > 4) return;
            const unit = cm.nearest(plot, event.clientX, event.clientY);
            if (unit !== null) cm.go({unit});
        }, true);
    };
    const other = {'d-anchor-graph': 'scalars-graph', 'scalars-graph': 'd-anchor-graph'};
    cm.zoomed = (id, change) => {
        const range = change['xaxis.range'] || (('xaxis.range[0]' in change) && [change['xaxis.range[0]'], change['xaxis.range[1]']]);
        const plot = cm.plot(other[id]);
        if (!range || cm.syncing) return;
        cm.zoom = range; // the next figure is drawn with it: Plotly forgets a user's range when the axis' own range grows
        cm.kick();
        if (!plot) return;
        cm.syncing = true;
        window.Plotly.relayout(plot, {'xaxis.range': range}).finally(() => (cm.syncing = false));
    };
    /* Back to the whole run, which grows on. */
    cm.unzoom = () => {
        cm.zoom = null;
        cm.kick();
        cm.syncing = true;
        const plots = Object.keys(other).map(cm.plot).filter((plot) => plot && plot.layout.meta);
        const change = (plot) => ({'xaxis.range': plot.layout.meta.span, 'yaxis.autorange': true});
        Promise.all(plots.map((plot) => window.Plotly.relayout(plot, change(plot)))).finally(() => (cm.syncing = false));
        return false;
    };
})();
