"""Pictures of training, results and images, by matplotlib: ``pip install 'handmill[plot]'``.

Each function returns a figure of matplotlib, and draws into ``ax`` where that is given. Nothing of
matplotlib's own state is changed.
"""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        name: "handmill.inspection.image_plots"
        for name in ("activation_maps", "augmentations", "filters", "images", "misclassified")
    }
    | {name: "handmill.inspection.strategy_plots" for name in ("comparison", "learning_curve")}
    | {
        name: "handmill.inspection.plots"
        for name in (
            "confusion_matrix",
            "gradient_histograms",
            "history",
            "precision_recall_curve",
            "roc_curve",
            "weight_histograms",
        )
    },
)
