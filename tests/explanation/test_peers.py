"""What captum and shap compute on torch, ours computes too; for the same networks and inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import explanation, layers

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # of captum, shap and torch about one another
RNG = np.random.default_rng(0)
X = RNG.random((3, 12)).astype(np.float32)
IMAGES = RNG.random((3, 12, 12, 2)).astype(np.float32)


def pair(activation: str = "relu") -> tuple[Any, Any]:
    model = handmill.Sequential(
        [
            handmill.Input((12,)),
            layers.Dense(20, activation),
            layers.Dense(16, activation),
            layers.Dense(4, "softmax"),
        ]
    )
    draw = np.random.default_rng(1)
    model.set_weights([draw.normal(0, 0.5, w.shape) for w in model.get_weights()])
    kind = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid}[activation]
    parts: list[Any] = []
    weights = model.get_weights()
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        parts += [torch.nn.Linear(*kernel.shape), kind()]
        parts[-2].weight.data = torch.tensor(kernel.T.copy())
        parts[-2].bias.data = torch.tensor(bias)
    return model, torch.nn.Sequential(*parts[:-1])


def convolutional() -> tuple[Any, Any]:
    model = handmill.Sequential(
        [
            handmill.Input((12, 12, 2)),
            layers.Conv2D(5, 3, activation="relu", name="first"),
            layers.MaxPooling2D(2),
            layers.Conv2D(4, 2, activation="relu", name="second"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, "softmax"),
        ]
    )
    draw = np.random.default_rng(1)
    model.set_weights([draw.normal(0, 0.5, w.shape) for w in model.get_weights()])
    a, b, c, d, e, f = (torch.tensor(w) for w in model.get_weights())

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = torch.nn.Conv2d(2, 5, 3), torch.nn.Conv2d(5, 4, 2)
            self.relu1, self.relu2, self.pool = (
                torch.nn.ReLU(),
                torch.nn.ReLU(),
                torch.nn.MaxPool2d(2),
            )
            self.mean, self.last = torch.nn.AvgPool2d(4), torch.nn.Linear(4, 3)
            for layer, kernel, bias in ((self.one, a, b), (self.two, c, d)):
                layer.weight.data, layer.bias.data = kernel.permute(3, 2, 0, 1).contiguous(), bias
            self.last.weight.data, self.last.bias.data = e.T.contiguous(), f

        def forward(self, x: Any) -> Any:
            h = self.relu2(self.two(self.pool(self.relu1(self.one(x)))))
            return self.last(self.mean(h)[:, :, 0, 0])

    return model, Net()


def first(x: Any) -> Any:
    return torch.tensor(np.moveaxis(x, -1, 1).copy())


@pytest.mark.parametrize("activation", ("relu", "tanh", "sigmoid"))
def test_captum_on_dense_networks(activation: str) -> None:
    attr = pytest.importorskip("captum.attr")
    model, net = pair(activation)
    x = torch.tensor(X)
    methods: list[tuple[str, Any, dict[str, Any]]] = [
        ("saliency", attr.Saliency(net), {}),
        ("input_x_gradient", attr.InputXGradient(net), {}),
        ("deep_lift", attr.DeepLift(net), {"baseline": 0}),
    ]
    if activation == "relu":
        methods += [
            ("guided_backpropagation", attr.GuidedBackprop(net), {}),
            ("deconvolution", attr.Deconvolution(net), {}),
        ]
    for name, method, options in methods:
        want = method.attribute(x, target=2).detach().numpy()
        found = getattr(explanation, name)(model, X, 2, **options)
        np.testing.assert_allclose(found.values, want, rtol=1e-4, atol=1e-5, err_msg=name)
    want = attr.IntegratedGradients(net).attribute(x, target=2, n_steps=50).numpy()
    found = explanation.integrated_gradients(model, X, 2, baseline=0, tolerance=1)
    np.testing.assert_allclose(found.values, want, rtol=1e-4, atol=1e-5)


def test_captum_on_faithfulness() -> None:
    metrics = pytest.importorskip("captum.metrics")
    attr = pytest.importorskip("captum.attr")
    model, net = pair("tanh")
    found = explanation.input_x_gradient(model, X, 2)
    changes = RNG.normal(0, 0.1, (6, *X.shape)).astype(np.float32)
    turn = iter(range(99))

    def perturbed(x: Any) -> Any:
        change = torch.tensor(changes[next(turn) % 6])
        return change, x - change

    for normalized in (False, True):
        want = metrics.infidelity(
            net, perturbed, torch.tensor(X), torch.tensor(found.values), target=2,
            n_perturb_samples=6, max_examples_per_batch=3, normalize=normalized,
        )  # fmt: skip
        ours = explanation.infidelity(found, model, changes, normalized=normalized)
        np.testing.assert_allclose(ours, want.numpy(), rtol=1e-4, atol=1e-6)
    want = metrics.sensitivity_max(
        attr.InputXGradient(net).attribute, torch.tensor(X), target=2, n_perturb_samples=6,
        perturb_func=lambda x: x + torch.tensor(changes[next(turn) % 6]),
        max_examples_per_batch=3,
    )  # fmt: skip
    ours = explanation.max_sensitivity(
        explanation.input_x_gradient, model, X, 2, perturbations=changes
    )
    np.testing.assert_allclose(ours, want.detach().numpy(), rtol=1e-3)


def test_captum_on_games() -> None:
    """Exact values of five players by all orders of them, and the regression of KernelSHAP."""
    attr = pytest.importorskip("captum.attr")
    model, net = pair("tanh")
    x, absent = X[:1], X[1:2]
    groups = [[0, 1, 2], [3], [4, 5, 6, 7], [8, 9], [10, 11]]
    mask = np.zeros((1, 12), np.int64)
    for number, group in enumerate(groups):
        mask[0, group] = number
    options = {"baselines": torch.tensor(absent), "feature_mask": torch.tensor(mask), "target": 2}

    def softened(rows: Any) -> Any:
        return torch.softmax(net(rows), 1)

    with torch.no_grad():
        want = attr.ShapleyValues(softened).attribute(torch.tensor(x), **options).numpy()
        fitted = attr.KernelShap(softened).attribute(torch.tensor(x), n_samples=4000, **options)
    for method in ("exact", "kernel"):
        found = explanation.shap(model, x, absent, 2, method, groups=groups).values
        np.testing.assert_allclose(found[:, mask[0]], want, atol=1e-5)
    np.testing.assert_allclose(found[:, mask[0]], fitted.numpy(), atol=5e-3)  # it draws coalitions


def test_captum_on_images() -> None:
    attr = pytest.importorskip("captum.attr")
    model, net = convolutional()
    x = first(IMAGES)
    for name, method, options in (
        ("saliency", attr.Saliency(net), {}),
        ("guided_backpropagation", attr.GuidedBackprop(net), {}),
        ("deconvolution", attr.Deconvolution(net), {}),
    ):
        want = np.moveaxis(method.attribute(x, target=1).detach().numpy(), 1, -1)
        found = getattr(explanation, name)(model, IMAGES, 1, **options)
        np.testing.assert_allclose(found.values, want, rtol=1e-4, atol=1e-5, err_msg=name)
    for layer, module in (("first", net.relu1), ("second", net.relu2)):
        grad_cam = attr.LayerGradCam(net, module)
        want = grad_cam.attribute(x, target=1, relu_attributions=True).detach().numpy()[:, 0]
        found = explanation.grad_cam(model, IMAGES, 1, layer=layer)
        np.testing.assert_allclose(found.values, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ("relu", "tanh", "sigmoid"))
def test_deep_shap_of_shap(activation: str) -> None:
    shap = pytest.importorskip("shap")
    model, net = pair(activation)
    background = RNG.random((20, 12)).astype(np.float32)
    explainer = shap.DeepExplainer(net, torch.tensor(background))
    want = explainer.shap_values(torch.tensor(X))  # (rows, features, classes)
    for target in range(4):
        found = explanation.deep_shap(model, X, target, background=background)
        np.testing.assert_allclose(found.values, want[..., target], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.base_values, explainer.expected_value[target], rtol=1e-4)
    shown = found.to_shap()
    assert shown.values.shape == (3, 12)
    np.testing.assert_allclose(shown.base_values + shown.values.sum(1), found.scores, atol=1e-5)


def test_deep_shap_through_max_pooling() -> None:
    shap = pytest.importorskip("shap")
    model, net = convolutional()
    background = RNG.random((6, 12, 12, 2)).astype(np.float32)
    explainer = shap.DeepExplainer(net, first(background))
    want = np.moveaxis(explainer.shap_values(first(IMAGES))[..., 2], 1, -1)
    found = explanation.deep_shap(model, IMAGES, 2, background=background)
    np.testing.assert_allclose(found.values, want, rtol=1e-3, atol=1e-5)
