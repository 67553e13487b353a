/* The cells of the list of runs. Text from the store is always a text node, never markup. */
(function () {
    'use strict';
    const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
    const functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
    const make = (...parts) => window.React.createElement(...parts);

    /* An ordinary click stays in the document; Ctrl, Shift or the middle button do what they always do. */
    const link = (href, text, properties) =>
        make('a', Object.assign({href, onClick: (event) => {
            if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
            event.preventDefault();
            window.cm.travel(href);
        }}, properties), text);

    cells.CmRunLink = ({data, value}) => link(data.href, value || data.run, {className: 'run-link', title: data.about});
    cells.CmState = ({value}) => make('span', {className: `dot ${value}`}, value);
    cells.CmTags = ({value}) => (value ? value.split(', ').map((tag) => make('span', {className: 'tag', key: tag}, tag)) : '');
    cells.CmNumber = ({value, suffix, digits, sign, colDef, data}) => {
        if (value === null || value === undefined) return make('span', {className: 'quiet'}, '–');
        const text = value.toLocaleString('en', {minimumFractionDigits: digits, maximumFractionDigits: digits});
        const shown = (sign && value > 0 ? '+' : '') + text.replace('-', '−') + suffix;
        if (colDef.field === 'alerts' && value > 0) return link(data.alerts_href, `▲ ${shown}`, {className: 'open-alerts'});
        const better = colDef.field === 'change' && Math.abs(value) >= 0.05 ? (value < 0 ? 'better' : 'worse') : '';
        return make('span', {className: better}, shown);
    };
    functions.cmAge = (seconds) => {
        const age = Math.max(0, seconds);
        if (age < 90) return `${Math.round(age)} s ago`;
        if (age < 5400) return `${Math.round(age / 60)} min ago`;
        return age < 172800 ? `${Math.round(age / 3600)} h ago` : `${Math.round(age / 86400)} d ago`;
    };
    cells.CmAge = ({value}) => functions.cmAge(Date.now() / 1000 - value);

    /* d_anchor over steps, over its own range; a gap where it is not a number. */
    cells.CmSparkline = ({value, data}) => {
        const points = (value || []).filter(([, y]) => y !== null);
        if (points.length < 2) return make('span', {className: 'quiet'}, points.length ? 'one snapshot' : 'no snapshot yet');
        const [width, height] = [130, 26];
        const xs = points.map(([x]) => x);
        const ys = points.map(([, y]) => y);
        const [left, right] = [Math.min(...xs), Math.max(...xs)];
        const [low, high] = [Math.min(...ys), Math.max(...ys)];
        const place = ([x, y]) => [
            ((x - left) / (right - left || 1)) * (width - 6) + 3,
            high > low ? height - 3 - ((y - low) / (high - low)) * (height - 6) : height / 2,
        ];
        let path = '';
        let broken = true;
        for (const point of value) {
            if (point[1] === null) { broken = true; continue; }
            const [x, y] = place(point);
            path += `${broken ? 'M' : 'L'}${x.toFixed(1)},${y.toFixed(1)}`;
            broken = false;
        }
        const [x, y] = place(points[points.length - 1]);
        const said = `d_anchor of ${data.layer} from ${ys[0].toFixed(4)} to ${ys[ys.length - 1].toFixed(4)}, lowest ${low.toFixed(4)}, highest ${high.toFixed(4)}`;
        return make('svg', {viewBox: `0 0 ${width} ${height}`, className: 'spark', role: 'img', 'aria-label': said},
            make('title', null, said),
            make('path', {d: path, fill: 'none', vectorEffect: 'non-scaling-stroke'}),
            make('circle', {cx: x, cy: y, r: 2.4}));
    };
})();
