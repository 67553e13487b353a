/* What the page does by itself: the address, the clock, the theme, the state chip. Called as clientside callbacks. */
(function () {
    'use strict';
    const cm = window.cm;
    const ENDED = ['finished', 'failed', 'lost'];

    /* The address is the state: change one part of the query, keep the others. */
    cm.query = (name) => new URLSearchParams(location.search).get(name);
    cm.go = (changes) => {
        const query = new URLSearchParams(location.search);
        for (const [name, value] of Object.entries(changes))
            if (value === null || value === '') query.delete(name);
            else query.set(name, value);
        const search = query.toString() ? '?' + query.toString() : '';
        if (search === location.search) return;
        // One entry of the history per journey through time, not one per step: Back leads out of it.
        const journey = Object.keys(changes).join() === 'step' && changes.step !== null && cm.query('step') !== null;
        history[journey ? 'replaceState' : 'pushState'](null, '', location.pathname + search);
        cm.asked = {step: query.get('step'), at: performance.now()};
        window.dispatchEvent(new CustomEvent('_dashprivate_pushstate')); // what a dcc.Link does
    };
    const CATCHING_UP = 10; // seconds since the last commit: the server is at work, the captures are merely old
    const seconds = (value) => {
        if (value < 90) return `${Math.max(0, Math.round(value))} s`;
        if (value < 5400) return `${Math.round(value / 60)} min`;
        return value < 172800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} d`;
    };
    const step = (status) => (status.step === null || status.step === undefined ? '' : ` · step ${status.step.toLocaleString('en')}`);

    /* Text, class and explanation of the chip. The watchdog comes first: whatever was true, it may be no longer. */
    cm.state = (status) => {
        const now = performance.now();
        const quiet = (now - (cm.heard || cm.started)) / 1000;
        if (cm.locked) return ['locked · token needed', 'gone', 'The dashboard asks for its token: open the address that it printed when it started.'];
        if (quiet > 5) return [`server gone · dashboard silent for ${seconds(quiet)}`, 'gone', 'This page gets no answer from its dashboard; what you see is old. It connects again by itself.'];
        if (!cm.heard || !status) return ['connecting…', 'waiting', ''];
        const ended = status.known && ENDED.includes(status.state);
        const silent = cm.silence === null ? null : cm.silence + quiet;
        const young = (now - cm.started) / 1000 < 4;
        if (!ended && silent === null) return young ? ['connecting…', 'waiting', ''] : ['server gone · not heard', 'gone', 'No server answers for this store. Start one: concept-monitor up'];
        if (!ended && silent > 4) return [`server gone · last heard ${seconds(silent)} ago`, 'gone', 'The analysis server is silent; training goes on without it. Nothing new comes until it is back.'];
        if (!status.known) return status.run ? ['no such run', 'waiting', ''] : ['server ready', 'waiting', 'The server is up.'];
        if (status.state === 'finished') return [`finished${step(status)}`, 'finished', 'The training script ended the run.'];
        if (status.state === 'failed') return [`failed${step(status)}`, 'gone', 'Training ended with an exception.'];
        if (status.state === 'lost') return [`client lost${step(status)}`, 'gone', 'The training process fell silent without saying goodbye.'];
        if (status.step === null) return [status.activity || 'waiting for the first capture', 'waiting', ''];
        const age = status.now - status.last + (now - status.at) / 1000;
        if (status.activity) return [`${status.activity}${step(status)}`, 'waiting', ''];
        const since = status.now - (status.committed || 0) + (now - status.at) / 1000;
        if (age > status.stale_after && since < CATCHING_UP) return [`catching up${step(status)} · ${seconds(age)} behind`, 'waiting', 'The server is working through captures that came before it was ready; they appear in order.'];
        if (age > status.stale_after) return [`stale${step(status)} · ${seconds(age)} old`, 'stale', 'No new snapshot for much longer than usual: training is slow, paused or hung.'];
        return [`live${step(status)} · ${seconds(age)} ago`, 'live', 'Captures arrive as usual.'];
    };

    /* Whether somebody is at a field: it has the focus, or the pointer is on it or its buttons. */
    cm.chosenIn = (id) => {
        const field = document.getElementById(id);
        const whole = field && (field.closest('.mantine-InputWrapper-root') || field);
        return !!whole && (whole.contains(document.activeElement) || whole.matches(':hover'));
    };

    window.dash_clientside = Object.assign({}, window.dash_clientside, {
        cm: {
            theme: (scheme) => {
                const dark = window.matchMedia && window.matchMedia('(prefers-color-scheme: dark)').matches;
                const name = scheme || (dark ? 'dark' : 'light');
                document.documentElement.dataset.theme = name;
                return [name, name];
            },
            toggle: (clicks, theme) => (theme === 'dark' ? 'light' : 'dark'),
            moved: (pathname, search, theme) => {
                if (pathname !== cm.path) {
                    cm.zoom = null;
                    cm.pause();
                }
                cm.path = pathname;
                cm.showClock();
                if (theme) cm.kick();
            },
            chip: (ticks, status) => {
                cm.start();
                cm.hook();
                if (status && status !== cm.status) {
                    status.at = performance.now();
                    cm.status = status;
                }
                const [text, kind, title] = cm.state(cm.status);
                const said = [text, 'chip ' + kind, title];
                const news = said.map((one, i) => (cm.said && cm.said[i] === one ? window.dash_clientside.no_update : one));
                cm.said = said;
                return news;
            },
            poll: () => cm.poll(),
            clock: (data) => {
                cm.stops = data || cm.stops;
                cm.showClock();
            },
            live: () => cm.follow(),
            run: (run) => {
                if (run && run !== cm.place().run) cm.set('url', {pathname: `/run/${encodeURIComponent(run)}/overview`, search: ''});
            },
            layers: (names) => {
                cm.layers = names || [];
            },
            // A choice counts only if it is the reader's: an answer to an older address may still set the old value.
            layer: (layer) => {
                if (layer && cm.layer && layer !== cm.layer && layer !== cm.query('layer') && cm.chosenIn('layer-select')) cm.go({layer, unit: null, track: null});
                cm.layer = layer;
            },
            unit: (unit) => {
                const wanted = unit === '' || unit === null || unit === undefined ? null : String(unit);
                if (wanted !== cm.query('unit') && cm.chosenIn('unit-input')) cm.go({unit: wanted});
            },
            drawn_shown: () => cm.done('route'),
            drawn_frame: () => cm.done('frame'),
            drawn_overview: () => cm.done('overview'),
            drawn_map: () => cm.done('map'),
        },
    });
})();
