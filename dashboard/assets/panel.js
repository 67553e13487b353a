/* The buttons of every chart: its table twin, and what can be saved of it. They work for any chart of components/panel.py:
   with a table on the server (data-table) the numbers come from the store, else from what is drawn. */
(function () {
    'use strict';
    const cm = (window.cm = window.cm || {});
    const LATER = 1000; // an open table follows its chart at most once in so many milliseconds

    const chartOf = (node) => node.closest('.chart');
    const plotOf = (chart) => chart.querySelector('.js-plotly-plot');
    const address = (chart, kind) => {
        const {run} = cm.place();
        const query = new URLSearchParams({run: run || ''});
        for (const name of ['layer', 'step']) if (cm.query(name) !== null) query.set(name, cm.query(name));
        return `/table/${chart.dataset.table}.${kind}?${query}`;
    };

    /* What is drawn, as columns and rows: one row per point. */
    cm.drawn = (plot) => {
        const rows = [];
        const words = (trace, i) => ((trace.text || trace.hovertext || [])[i] || '').replace(/<[^>]*>/g, ' ').trim();
        for (const trace of plot.data) {
            if (trace.visible === false || !trace.x || !trace.y) continue;
            for (let i = 0; i < trace.x.length; i++)
                if (trace.x[i] !== null && trace.y[i] !== null) rows.push([trace.name || '', trace.x[i], trace.y[i], words(trace, i)]);
        }
        const worded = rows.some((row) => row[3] !== '');
        const title = (axis, other) => (axis && axis.title && axis.title.text ? axis.title.text.replace(/<[^>]*>/g, ' ') : other);
        const columns = ['series', title(plot.layout.xaxis, 'x'), title(plot.layout.yaxis, 'y')];
        return {columns: worded ? [...columns, 'text'] : columns, rows: worded ? rows : rows.map((row) => row.slice(0, 3)), total: rows.length};
    };
    const numbers = async (chart) => {
        if (!chart.dataset.table) return cm.drawn(plotOf(chart));
        const answer = await fetch(address(chart, 'json'));
        if (!answer.ok) throw new Error(await answer.text());
        return answer.json();
    };

    const shown = (value) => {
        if (value === null || value === undefined || value === '') return '–';
        if (typeof value !== 'number') return String(value);
        return Number.isInteger(value) ? value.toLocaleString('en') : value.toPrecision(5);
    };
    const element = (name, text, properties) => Object.assign(document.createElement(name), {textContent: text || ''}, properties || {});
    const render = (found, label) => {
        const table = element('table', '', {className: 'numbers'});
        table.appendChild(element('caption', label, {className: 'unseen'}));
        const head = table.createTHead().insertRow();
        for (const name of found.columns) head.appendChild(element('th', name, {scope: 'col'}));
        const body = table.createTBody();
        for (const row of found.rows) {
            const line = body.insertRow();
            for (const value of row) line.insertCell().textContent = shown(value);
        }
        return table;
    };
    /* The table that the page itself tells, where it has one. */
    const told = (chart) => {
        const table = chart.dataset.told && document.querySelector(`#${chart.dataset.told} table`);
        return table ? table.cloneNode(true) : null;
    };
    const fill = async (chart) => {
        const twin = chart.querySelector('.twin');
        try {
            const own = told(chart);
            const found = own ? null : await numbers(chart);
            if (!chart.classList.contains('tabled')) return;
            const all = own || found.rows.length === found.total;
            const count = own ? own.tBodies[0].rows.length : found.total;
            const note = all ? `${count.toLocaleString('en')} rows` : `${found.rows.length} of ${count.toLocaleString('en')} rows; the CSV has all`;
            const frame = element('div', '', {className: 'table-frame', tabIndex: 0});
            frame.setAttribute('role', 'region');
            frame.setAttribute('aria-label', chart.dataset.label);
            frame.appendChild(own || render(found, chart.dataset.label));
            const before = twin.querySelector('.table-frame');
            const at = before ? [before.scrollLeft, before.scrollTop] : [0, 0];
            twin.replaceChildren(frame, element('p', note, {className: 'summary'}));
            [frame.scrollLeft, frame.scrollTop] = at;
        } catch (error) {
            twin.replaceChildren(element('p', `The table could not be read: ${error.message}`, {className: 'problem'}));
        }
    };
    const show = (chart, on) => {
        chart.classList.toggle('tabled', on);
        chart.querySelector('[data-tool=table]').setAttribute('aria-expanded', String(on));
        if (!on) chart.querySelector('.twin').replaceChildren();
        else fill(chart);
        window.dispatchEvent(new Event('resize'));
    };
    cm.allTables = () => {
        const charts = [...document.querySelectorAll('#page .chart')];
        const on = charts.some((chart) => !chart.classList.contains('tabled'));
        for (const chart of charts) show(chart, on);
    };
    /* An open table follows its chart. */
    let due = null;
    cm.redrawn = () => {
        if (due || !document.querySelector('.chart.tabled')) return;
        due = setTimeout(() => {
            due = null;
            for (const chart of document.querySelectorAll('.chart.tabled')) fill(chart);
        }, LATER);
    };

    const save = (name, url) => {
        const link = element('a', '', {href: url, download: name});
        document.body.appendChild(link);
        link.click();
        link.remove();
    };
    const field = (value) => {
        const text = value === null || value === undefined ? '' : String(value);
        return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
    };
    const csv = (chart) => {
        if (chart.dataset.table) return save('', address(chart, 'csv'));
        const {columns, rows} = cm.drawn(plotOf(chart));
        const text = [columns, ...rows].map((row) => row.map(field).join(',')).join('\r\n') + '\r\n';
        const url = URL.createObjectURL(new Blob([text], {type: 'text/csv'}));
        save(fileName(chart) + '.csv', url);
        setTimeout(() => URL.revokeObjectURL(url), 10000);
    };
    const fileName = (chart) => {
        const past = cm.query('step');
        const parts = [cm.place().run || 'runs', chart.dataset.graph.replace(/-graph$/, ''), ...(past === null ? [] : [`step${past}`])];
        return parts.join('_').replace(/[^A-Za-z0-9._-]+/g, '-');
    };
    /* The picture as on screen, on solid ground, under a title that says what it is of. */
    cm.picture = (chart, format) => {
        const plot = plotOf(chart);
        const style = getComputedStyle(document.body);
        const [panel, ink] = ['--panel', '--ink'].map((name) => style.getPropertyValue(name).trim());
        const past = cm.query('step');
        const of = [chart.dataset.label, cm.place().run, past === null ? '' : `step ${past}`].filter(Boolean).join(' · ');
        const margin = Object.assign({}, plot.layout.margin);
        margin.t = (margin.t || 0) + 36;
        const title = {text: of.replace(/</g, '&lt;'), x: 0, xref: 'paper', y: 1, yref: 'container', yanchor: 'top', pad: {t: 10}, font: {size: 13, color: ink}};
        const annotations = [...(plot.layout.annotations || []), ...cm.labelNotes(plot)];
        const layout = Object.assign({}, plot.layout, {paper_bgcolor: panel, plot_bgcolor: panel, margin, title, annotations});
        const size = {width: plot.clientWidth, height: plot.clientHeight + 36};
        return window.Plotly.toImage({data: plot.data, layout: Object.assign(layout, size)}, Object.assign({format, scale: format === 'png' ? 2 : 1}, size));
    };

    /* Lines to copy: the button says that it is done. */
    document.addEventListener('click', (event) => {
        const button = event.target.closest && event.target.closest('[data-copy]');
        if (!button) return;
        const say = (text) => {
            button.textContent = text;
            setTimeout(() => (button.textContent = 'Copy'), 2000);
        };
        // Only there where the page came from this machine or over TLS; elsewhere one selects and copies by hand.
        if (!navigator.clipboard) return say('Select it and press Ctrl-C');
        navigator.clipboard.writeText(button.dataset.copy).then(() => say('Copied'), () => say('Select it and press Ctrl-C'));
    });

    document.addEventListener('click', (event) => {
        const button = event.target.closest && event.target.closest('[data-tool]');
        for (const open of document.querySelectorAll('details.save[open]')) if (!open.contains(event.target) || button) open.open = false;
        if (!button) return;
        const chart = chartOf(button);
        const tool = button.dataset.tool;
        if (tool === 'table') show(chart, !chart.classList.contains('tabled'));
        else if (tool === 'csv') csv(chart);
        else cm.picture(chart, tool).then((url) => save(`${fileName(chart)}.${tool}`, url));
    });
})();
