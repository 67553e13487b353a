"""The dashboard: a browser's view of a store, live. It reads reports and draws them; it computes no concept itself.

``python -m dashboard`` (or ``concept-monitor dashboard``) serves it; :func:`dashboard.app.create_app` builds it. It
imports `cm_server.report`, `stores`, `events` and `config` only, and never loads torch.

The address is the state: ``/`` (runs; goes to the overview if there is only one), ``/run/<id>/overview``,
``/run/<id>/map``, ``/run/<id>/neuron``, ``/run/<id>/concepts``, ``/run/<id>/evolution``, and
``?layer=…&step=…&unit=…`` on all; without ``step`` the page is live.
The Evolution page also reads ``tau=``, ``t=`` and ``anchors=``, Concepts ``q=`` (any words), the list of runs ``find=``
and ``sort=``. Pages of no single run:
``/compare?runs=a,b&steps=…``, ``/alerts?run=…&state=…&severity=…&rule=…`` and ``/system``.

Stable element ids, for tests and scripts: ``state-chip`` (text: what the run is doing), ``d-anchor-graph``,
``scalars-graph``, ``categories-graph``, ``map-graph`` (graphs), ``strip-graph`` and ``clock-slider`` (the clock),
``live-button``, ``neuron-card``, ``alerts-list``, ``latency`` (text: ``hook to page 240 ms``, the newest snapshot's
time on screen minus ``captured_at``; its attribute ``data-ms`` holds the number).
"""
