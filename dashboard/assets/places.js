/* Compare, Evolution, Alerts and System: what these pages need beside live.js and page.js, which are loaded before. */
(function () {
    'use strict';
    const cm = window.cm;
    const wired = window.dash_clientside.cm;
    cm.pages.push('compare', 'evolution', 'alerts', 'system');
    cm.sides = null; // what Compare shows: {runs, layer, one_map}
    cm.camera = null; // the part of both maps that is looked at

    cm.cares = (run, kind) => {
        const page = cm.place().page;
        if (page === 'compare') return !!cm.sides && cm.sides.runs.includes(run);
        return page === 'alerts' && kind === 'alert';
    };

    /* Compare: every choice changes one part of the address. */
    cm.compare = (runs, steps) => {
        const named = runs.filter(Boolean);
        const said = steps.map((step) => (step === null || step === undefined ? '' : String(step))).join(',');
        cm.go({runs: named.map(encodeURIComponent).join(','), steps: said.replaceAll(',', '') ? said : null});
    };
    /* What the address says, as comparison.py reads it: what the server sets comes from there, and so changes nothing. */
    const named = (text) => {
        try {
            return decodeURIComponent(text);
        } catch (error) {
            return text;
        }
    };
    cm.compared = () => {
        const runs = (cm.query('runs') || '').split(',').filter(Boolean).map(named);
        let steps = (cm.query('steps') || '').split(',').map((step) => (/^\d{1,15}$/.test(step) ? Number(step) : null));
        if (runs.length === 1) {
            runs.push(runs[0]);
            if (steps.every((step) => step === null)) steps = [0];
        }
        while (steps.length < 2) steps.push(null);
        return {runs, steps: steps.slice(0, 2)};
    };
    cm.chooseRun = (index, run) => {
        const {runs, steps} = cm.compared();
        if (cm.place().page !== 'compare' || !run || runs[index] === run) return;
        runs[index] = run;
        steps[index] = null;
        cm.compare(runs, runs.filter(Boolean).length > 1 ? steps : []);
    };
    cm.chooseStep = (index, step, last) => {
        const {runs, steps} = cm.compared();
        if (cm.place().page !== 'compare' || runs.length < 2 || step === null || step === undefined) return;
        const wanted = step >= last ? null : step;
        if (wanted === steps[index]) return;
        steps[index] = wanted;
        cm.compare(runs, steps);
    };
    cm.swap = () => {
        const {runs, steps} = cm.compared();
        if (runs.length > 1) cm.compare([runs[1], runs[0], ...runs.slice(2)], [steps[1], steps[0]]);
    };

    /* One camera: what is looked at on one map is looked at on the other, and stays when both are drawn anew. */
    const maps = {'compare-left-graph': 'compare-right-graph', 'compare-right-graph': 'compare-left-graph'};
    cm.looked = (id, change) => {
        if (cm.syncing || !cm.sides || !cm.sides.one_map) return;
        if (!Object.keys(change).some((key) => /^[xy]axis\./.test(key))) return;
        const {xaxis, yaxis} = cm.plot(id)._fullLayout;
        cm.camera = [...xaxis.range, ...yaxis.range];
        const other = cm.plot(maps[id]);
        if (!other || !other._fullLayout) return;
        cm.syncing = true;
        const ranges = {'xaxis.range': xaxis.range.slice(), 'yaxis.range': yaxis.range.slice()};
        window.Plotly.relayout(other, ranges).finally(() => (cm.syncing = false));
    };
    const hook = cm.hook;
    cm.hook = () => {
        hook();
        for (const id of Object.keys(maps)) {
            const plot = cm.plot(id);
            if (!plot || plot.cmHooked || !plot.on) continue;
            plot.cmHooked = true;
            plot.on('plotly_relayout', (change) => cm.looked(id, change));
            cm.listen(plot);
        }
    };

    /* Alerts: what was ordered, and which filters stand in the address. */
    cm.filter = (name, value) => {
        const wanted = value === '' || value === null || value === undefined ? null : value;
        if ((wanted || null) !== cm.query(name)) cm.go({[name]: wanted});
    };

    const {moved, chip} = wired;
    let scene = '';
    Object.assign(wired, {
        moved: (pathname, search, theme) => {
            const query = new URLSearchParams(search || '');
            const now = [pathname, query.get('runs'), query.get('layer')].join('|');
            if (now !== scene) cm.camera = null;
            scene = now;
            return moved(pathname, search, theme);
        },
        chip: (ticks, status) => {
            if (cm.place().page === 'system' && ticks % 2 === 0) cm.kick(); // its clocks go on without news
            return chip(ticks, status);
        },
        drawn_compare: (sent) => {
            cm.sides = sent ? sent.sides : null;
            cm.done('compare');
        },
        drawn_evolution: (sent) => {
            cm.done('evolution');
            if (sent && sent.more) cm.kick(); // what was asked for is recomputed in small portions
        },
        drawn_alerts: () => cm.done('alerts'),
        drawn_system: () => cm.done('system'),
        left_run: (run) => cm.chooseRun(0, run),
        right_run: (run) => cm.chooseRun(1, run),
        left_step: (step, last) => cm.chooseStep(0, step, last),
        right_step: (step, last) => cm.chooseStep(1, step, last),
        compare_layer: (layer) => {
            if (layer && cm.sides && layer !== cm.sides.layer) cm.go({layer, unit: null});
        },
        swap: () => cm.swap(),
        filter_run: (value) => cm.filter('run', value),
        filter_state: (value) => cm.filter('state', value === 'any' ? null : value),
        filter_severity: (value) => cm.filter('severity', value === 'any' ? null : value),
        filter_rule: (value) => cm.filter('rule', value),
        tau_wanted: (values) => cm.filter('tau', (values || []).join(',')),
        temperatures_wanted: (values) => cm.filter('t', (values || []).join(',')),
        anchors_wanted: (values) => {
            // No word at all is said aloud: without the part the run's own anchors stand there.
            const none = cm.query('anchors') === null ? null : ',';
            cm.filter('anchors', (values || []).map(encodeURIComponent).join(',') || none);
        },
        ordered: () => cm.kick(),
    });
})();
