/* The words over the map: a layer of our own, because Plotly measures each of its annotations anew with every drawing. */
(function () {
    'use strict';
    const cm = (window.cm = window.cm || {});
    const ABOVE = 12; // pixels from a star to the middle of its word

    const layerOf = (plot) => {
        const frame = plot.closest('.plot-frame');
        let layer = frame.querySelector(':scope > .labels');
        if (!layer) {
            layer = document.createElement('div');
            layer.className = 'labels';
            layer.setAttribute('aria-hidden', 'true'); // the frame's own name says what is drawn
            frame.appendChild(layer);
        }
        return layer;
    };
    /* Half the words' widths and heights in pixels, and the place of the chart's buttons as [x, y, half, half]: measured
       once per size of the plot, because asking for them makes the browser lay out the page. */
    const measured = (layer, size) => {
        if (layer.cmSizes && layer.cmSizes.size === size) return layer.cmSizes;
        const words = [...layer.children].map((span) => [span.offsetWidth / 2, span.offsetHeight / 2]);
        const frame = layer.getBoundingClientRect();
        const tools = layer.closest('.chart').querySelector('.chart-tools').getBoundingClientRect();
        const buttons = [(tools.left + tools.right) / 2 - frame.left, (tools.top + tools.bottom) / 2 - frame.top, tools.width / 2, tools.height / 2];
        const found = {size, words, buttons};
        if (words.some(([half]) => half)) layer.cmSizes = found; // not while it is hidden
        return found;
    };
    /* Puts every word where its star is, if it lies inside and touches none before it: the list begins with the most
       wanted. `ranges` are those of a movement that is under way. */
    cm.label = (plot, ranges = {}) => {
        const layout = plot._fullLayout;
        if (!layout || !plot.layout) return;
        const labels = (plot.layout.meta && plot.layout.meta.labels) || [];
        const layer = layerOf(plot);
        const key = JSON.stringify(labels);
        if (layer.dataset.key !== key) {
            layer.dataset.key = key;
            layer.cmSizes = null;
            layer.replaceChildren(...labels.map(([word]) => Object.assign(document.createElement('span'), {textContent: word})));
        }
        const place = (axis, name) => {
            const [low, high] = ranges[name] || axis.range;
            return (value) => ((value - low) / (high - low)) * axis._length;
        };
        const {xaxis, yaxis} = layout;
        const across = place(xaxis, 'xaxis');
        const up = place(yaxis, 'yaxis');
        cm.uncover(plot);
        const {words, buttons} = measured(layer, `${layout.width}x${layout.height}`);
        const taken = [[buttons[0] - xaxis._offset, buttons[1] - yaxis._offset, buttons[2], buttons[3]]];
        labels.forEach(([, x, y], i) => {
            const [half, high] = words[i];
            const left = across(x);
            const top = yaxis._length - up(y) - ABOVE;
            const inside = left >= half && left <= xaxis._length - half && top >= high && top <= yaxis._length - high;
            const free = inside && !taken.some((one) => Math.abs(one[0] - left) < one[2] + half && Math.abs(one[1] - top) < one[3] + high);
            if (free) taken.push([left, top, half, high]);
            const style = layer.children[i].style;
            style.visibility = free ? 'visible' : 'hidden';
            style.transform = `translate(${(xaxis._offset + left).toFixed(1)}px, ${(yaxis._offset + top).toFixed(1)}px) translate(-50%, -50%)`;
        });
    };
    /* What is said about a neuron under the pointer is not written over. */
    cm.uncover = (plot) => {
        const said = plot.querySelector('.hoverlayer .hovertext');
        const layer = layerOf(plot);
        if (!said) return void (layer.style.clipPath = '');
        const [frame, box] = [layer, said].map((one) => one.getBoundingClientRect());
        const [left, right, top, bottom] = [box.left - frame.left, box.right - frame.left, box.top - frame.top, box.bottom - frame.top];
        layer.style.clipPath = `path(evenodd, "M0 0H${frame.width}V${frame.height}H0Z M${left} ${top}H${right}V${bottom}H${left}Z")`;
    };
    cm.moving = (plot, change) => {
        const range = (name) => change[`${name}.range`] || (`${name}.range[0]` in change ? [change[`${name}.range[0]`], change[`${name}.range[1]`]] : null);
        const ranges = Object.fromEntries(['xaxis', 'yaxis'].map((name) => [name, range(name)]).filter(([, found]) => found));
        cm.label(plot, ranges);
    };
    /* For a saved picture: the words that are seen, as annotations. */
    cm.labelNotes = (plot) => {
        const all = (plot.layout.meta && plot.layout.meta.labels) || [];
        const shown = all.length ? layerOf(plot).children : [];
        const labels = all.filter((label, i) => shown[i] && shown[i].style.visibility === 'visible');
        const style = getComputedStyle(document.body);
        const [panel, ink] = ['--panel', '--ink'].map((name) => style.getPropertyValue(name).trim());
        const safe = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
        return labels.map(([word, x, y]) => ({text: safe(word), x, y, yshift: ABOVE, showarrow: false, bgcolor: panel, borderpad: 0, font: {size: 11, color: ink}}));
    };
})();
