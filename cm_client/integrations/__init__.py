"""Two lines in other people's training loops; each module needs its library, and only when it is imported.

- `cm_client.integrations.lightning`: ``Trainer(callbacks=[ConceptMonitorCallback()])``
- `cm_client.integrations.hf_trainer`: ``Trainer(…, callbacks=[ConceptMonitorCallback()])`` of transformers
- `cm_client.integrations.accelerate`: ``Accelerator(log_with=ConceptMonitorTracker(model))``
"""
