"""Callbacks: what happens between the steps of training."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BackupAndRestore": ".backup",
        "CSVLogger": ".logging",
        "Callback": ".callback",
        "CallbackList": ".callback_list",
        "EarlyStopping": ".stopping",
        "FreezeStatistics": ".freeze_statistics",
        "History": ".callback",
        "LambdaCallback": ".logging",
        "LearningRateScheduler": ".learning_rate",
        "HealthMonitor": ".health",
        "Lookahead": ".lookahead",
        "ModelCheckpoint": ".checkpoint",
        "ProgbarLogger": ".logging",
        "Prune": ".prune",
        "ReduceLROnPlateau": ".learning_rate",
        "RemoteMonitor": ".remote",
        "SwapEMAWeights": ".averages",
        "TensorBoard": ".tensorboard",
        "TerminateOnNaN": ".stopping",
    },
)
