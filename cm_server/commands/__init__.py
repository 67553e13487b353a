"""The subcommands of ``concept-monitor``, one module each with a function ``run(arguments) -> exit code``."""
