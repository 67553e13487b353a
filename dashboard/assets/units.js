/* Runs, Neuron and Concepts: what these pages need beside live.js, page.js and places.js. */
(function () {
    'use strict';
    const cm = window.cm;
    const wired = window.dash_clientside.cm;
    cm.pages.push('runs', 'neuron', 'concepts');

    /* The list of runs wants to hear of every run. */
    const cares = cm.cares;
    cm.cares = (run, kind) => (cm.place().page === 'runs' && kind !== 'scalars') || cares(run, kind);

    /* To another address without loading a document, as a dcc.Link does. */
    cm.travel = (href) => {
        if (href === location.pathname + location.search) return;
        history.pushState(null, '', href);
        window.dispatchEvent(new CustomEvent('_dashprivate_pushstate'));
        window.scrollTo(0, 0);
    };

    /* The list of runs as its address says: what is sought, what it is sorted and filtered by. */
    cm.arranged = null;
    cm.grid = () => window.dash_ag_grid && document.getElementById('runs-grid') && window.dash_ag_grid.getApi('runs-grid');
    cm.arrange = () => {
        const api = cm.grid();
        if (!api || cm.place().page !== 'runs') return;
        const find = cm.query('find') || '';
        if (api.getGridOption('quickFilterText') !== find) api.setGridOption('quickFilterText', find);
        const field = document.getElementById('runs-find');
        if (field && document.activeElement !== field && field.value !== find) cm.set('runs-find', {value: find});
        if (cm.arranged === api) return;
        cm.arranged = api;
        const wanted = (cm.query('sort') || '').split('_').map((one) => one.split('.')).filter(([, way]) => way === 'asc' || way === 'desc');
        const state = wanted.map(([colId, sort], sortIndex) => ({colId, sort, sortIndex}));
        if (state.length) api.applyColumnState({state, defaultState: {sort: null}});
        try {
            const model = JSON.parse(cm.query('filter') || 'null');
            if (model && typeof model === 'object') api.setFilterModel(model);
        } catch (error) {
            cm.go({filter: null}); // a hand-edited link
        }
    };

    setInterval(() => {
        const api = cm.place().page === 'runs' && cm.grid();
        if (api) api.refreshCells({columns: ['moved'], force: true}); // ages go on without news
    }, 20000);

    /* A permanent link: the button says that it is done. */
    const say = (button, text) => {
        const usual = button.dataset.usual || (button.dataset.usual = button.textContent);
        button.textContent = text;
        clearTimeout(button.cmTimer);
        button.cmTimer = setTimeout(() => (button.textContent = usual), 2000);
    };
    document.addEventListener('click', (event) => {
        const button = event.target.closest && event.target.closest('[data-link]');
        if (!button) return;
        const link = location.origin + button.dataset.link;
        // The clipboard is there only where the page came from this machine or over TLS: else the link is shown to copy.
        if (!navigator.clipboard) return window.prompt('Copy this link', link);
        navigator.clipboard.writeText(link).then(() => say(button, 'Copied'), () => window.prompt('Copy this link', link));
    });

    /* A click on a neuron of the small map leads to it. */
    const hook = cm.hook;
    cm.hook = () => {
        hook();
        const plot = cm.plot('neuron-map-graph');
        if (plot && !plot.cmHooked && plot.on) {
            plot.cmHooked = true;
            cm.listen(plot);
        }
    };

    Object.assign(wired, {
        drawn_runs: () => {
            cm.done('runs');
            cm.arrange();
        },
        found_runs: (text) => {
            const wanted = (text || '').trim() || null;
            if (wanted === cm.query('find') || !cm.chosenIn('runs-find')) return;
            cm.go({find: wanted});
        },
        sorted_runs: (state) => {
            if (!cm.arranged || cm.arranged !== cm.grid() || cm.place().page !== 'runs') return; // not yet as the address says
            const sorted = (state || []).filter((one) => one.sort).sort((a, b) => (a.sortIndex || 0) - (b.sortIndex || 0));
            cm.go({sort: sorted.map((one) => `${one.colId}.${one.sort}`).join('_') || null});
        },
        filtered_runs: (model) => {
            if (!cm.arranged || cm.arranged !== cm.grid() || cm.place().page !== 'runs') return;
            const wanted = model && Object.keys(model).length ? JSON.stringify(model) : null;
            if (wanted !== cm.query('filter')) cm.go({filter: wanted});
        },
        since_wanted: (step) => {
            const wanted = step === '' || step === null || step === undefined ? null : String(step);
            if (wanted !== cm.query('since') && cm.chosenIn('concepts-since')) cm.go({since: wanted});
        },
        drawn_neuron: () => cm.done('neuron'),
        drawn_concepts: (sent) => {
            cm.done('concepts');
            if (sent && sent.more) setTimeout(cm.kick, 200); // the server is being asked
        },
        searched: (text) => {
            const wanted = (text || '').trim() || null;
            if (wanted !== cm.query('q') && cm.chosenIn('concepts-q')) cm.go({q: wanted});
        },
        anchored: () => cm.kick(),
    });
})();
