"""Weights under torch's names, both ways, and scikit-learn's networks as models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill as hm
from handmill import layers as L
from handmill.exchange import export_weights, load_torch_weights, model_from_sklearn
from handmill.saving.model_file import read_tensors

RNG = np.random.default_rng(0)


def images() -> Any:
    return hm.Sequential(
        [
            L.Input((8, 8, 3)),
            *(L.Conv2D(4, 3, name="conv"), L.BatchNormalization(name="norm", epsilon=1e-5)),
            *(L.ReLU(), L.DepthwiseConv2D(3, depth_multiplier=2, name="deep")),
            *(L.Conv2DTranspose(6, 2, strides=2, name="up"), L.Flatten(), L.Dropout(0.5)),
            *(L.Dense(5, name="fc"), L.LayerNormalization(name="ln", epsilon=1e-5)),
        ]
    )


def words() -> Any:
    return hm.Sequential(
        [
            L.Input((6,), dtype="int32"),
            *(L.Embedding(9, 4, name="table"), L.LSTM(3, return_sequences=True, name="lstm")),
            *(L.GRU(3, return_sequences=True, name="gru"), L.SimpleRNN(2, name="rnn")),
        ]
    )


def test_weights_go_to_torch_and_back(tmp_path: Path) -> None:
    """Torch's own modules compute what the model does; read back, the same weights."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    there = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 3),
            "norm": nn.BatchNorm2d(4),
            "deep": nn.Conv2d(4, 8, 3, groups=4),
            "up": nn.ConvTranspose2d(8, 6, 2, stride=2),
            "fc": nn.Linear(384, 5),
            "ln": nn.LayerNorm(5),
        }
    )
    model = images()
    for v in model.variables:
        drawn = RNG.normal(scale=0.3, size=v.shape)
        v.assign((np.abs(drawn) + 0.5 if "variance" in v.path else drawn).astype("float32"))
    assert export_weights(model, tmp_path / "w.safetensors", names="torch") == []
    tensors = read_tensors(tmp_path / "w.safetensors")
    state = {name: torch.from_numpy(np.array(x)) for name, x in tensors.items()}
    missing = there.load_state_dict(state, strict=False)
    assert missing.unexpected_keys == []
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)
    there.eval()
    x = RNG.normal(size=(2, 8, 8, 3)).astype("float32")
    with torch.no_grad():
        y = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
        y = there["deep"](torch.relu(there["norm"](there["conv"](y))))
        y = there["ln"](there["fc"](there["up"](y).flatten(1))).numpy()
    np.testing.assert_allclose(model.predict(x, verbose=0), y, rtol=1e-4, atol=1e-5)
    again = images()
    load_torch_weights(again, there.state_dict())
    assert all(map(np.array_equal, again.get_weights(), model.get_weights()))


def test_recurrent_layers_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    there = nn.ModuleDict(
        {
            "table": nn.Embedding(9, 4),
            "lstm": nn.LSTM(4, 3, batch_first=True),
            "gru": nn.GRU(3, 3, batch_first=True),
            "rnn": nn.RNN(3, 2, batch_first=True),
        }
    )
    model = words()
    load_torch_weights(model, there.state_dict())
    ids = RNG.integers(0, 9, (3, 6)).astype("int64")
    with torch.no_grad():
        y = there["table"](torch.from_numpy(ids))
        y = there["rnn"](there["gru"](there["lstm"](y)[0])[0])[0][:, -1].numpy()
    np.testing.assert_allclose(model.predict(ids, verbose=0), y, rtol=1e-5, atol=1e-6)
    export_weights(model, tmp_path / "w.safetensors", names="torch")
    again = words()
    load_torch_weights(again, tmp_path / "w.safetensors")
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_layers_inside_of_others(tmp_path: Path) -> None:
    """Wrappers and nested models, one behind the Flatten of another; nothing is left out unsaid."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    there = nn.ModuleDict(
        {
            "body": nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3)}),
            "head": nn.ModuleDict({"fc": nn.Linear(4 * 6 * 6, 12)}),
            "each": nn.ModuleDict({"one": nn.Linear(3, 5)}),
            "both": nn.GRU(5, 3, batch_first=True, bidirectional=True),
        }
    )

    def made() -> Any:
        body = hm.Sequential([L.Conv2D(4, 3, name="conv"), L.Flatten()], name="body")
        head = hm.Sequential([L.ReLU(), L.Dense(12, name="fc")], name="head")
        return hm.Sequential(
            [
                *(L.Input((8, 8, 3)), body, head, L.Reshape((4, 3))),
                L.TimeDistributed(L.Dense(5, name="one"), name="each"),
                L.Bidirectional(L.GRU(3, return_sequences=True), name="both"),
            ]
        )

    model = made()
    load_torch_weights(model, there.state_dict())
    x = RNG.normal(size=(2, 8, 8, 3)).astype("float32")
    with torch.no_grad():
        y = there["body"]["conv"](torch.from_numpy(np.moveaxis(x, -1, 1).copy())).flatten(1)
        y = there["head"]["fc"](torch.relu(y)).reshape(2, 4, 3)
        y = there["both"](there["each"]["one"](y))[0].numpy()
    np.testing.assert_allclose(model.predict(x, verbose=0), y, rtol=1e-4, atol=1e-6)
    path = tmp_path / "w.safetensors"
    assert export_weights(model, path, names="torch") == []
    assert set(read_tensors(path)) == set(there.state_dict())
    again = made()
    load_torch_weights(again, path)
    assert all(map(np.array_equal, again.get_weights(), model.get_weights()))
    i = L.Input((3, 8))
    attention = hm.Model(i, L.MultiHeadAttention(2, 4, name="mha")(i, i))
    without = export_weights(attention, path, names="torch")
    assert [text.split()[0] for text in without] == ["query", "key", "value", "attention_output"]
    with pytest.raises(ValueError, match=r"query.* has no counterpart"):
        load_torch_weights(attention, {})


def test_all_or_none() -> None:
    model = hm.Sequential([L.Input((4,)), L.Dense(2, name="head"), L.Dense(1, name="last")])
    before = [np.array(w) for w in model.get_weights()]
    state = {
        **{"head.weight": np.ones((2, 3)), "head.bias": np.ones(2), "last.weight": np.ones((1, 2))},
        "other.weight": np.ones(3),
    }
    with pytest.raises(
        ValueError, match=r"head\.weight has shape[\s\S]*last\.bias is missing"
    ) as e:
        load_torch_weights(model, state)
    assert "other.weight is left over" in str(e.value)
    assert all(map(np.array_equal, before, model.get_weights()))
    own = hm.Sequential([L.Input((4,)), L.PReLU(name="slopes")])
    with pytest.raises(ValueError, match=r"slopes.* has no counterpart"):
        load_torch_weights(own, {})


def test_names(tmp_path: Path) -> None:
    model = hm.Sequential([L.Input((4,)), L.Dense(2, name="head"), L.PReLU(name="slopes")])
    path = tmp_path / "w.safetensors"
    found = export_weights(model, path, names="torch", modules=lambda p: f"model.{p}")
    assert found == ["slopes (PReLU)"]
    assert set(read_tensors(path)) == {"model.head.weight", "model.head.bias"}
    export_weights(model, path)
    model.load_weights(path)
    with pytest.raises(ValueError, match="names"):
        export_weights(model, path, names="jax")
    with pytest.raises(ValueError, match="safetensors"):
        export_weights(model, tmp_path / "w.pt", names="torch")


@pytest.mark.filterwarnings("ignore")
def test_networks_of_sklearn() -> None:
    pytest.importorskip("sklearn")
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    x = RNG.normal(size=(30, 4))
    settings = {"hidden_layer_sizes": (5, 3), "max_iter": 3, "random_state": 0}
    for classes, activation in ((3, "relu"), (2, "tanh")):
        y = RNG.integers(0, classes, 30)
        net = MLPClassifier(activation=activation, **settings).fit(x, y)
        found = model_from_sklearn(net).predict(x.astype("float32"), verbose=0)
        wanted = net.predict_proba(x)
        wanted = wanted if classes > 2 else wanted[:, 1:]
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    net = MLPRegressor(activation="logistic", **settings).fit(x, x[:, :2])
    found = model_from_sklearn(net).predict(x.astype("float32"), verbose=0)
    np.testing.assert_allclose(found, net.predict(x), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="fitted"):
        model_from_sklearn(MLPRegressor())
    with pytest.raises(TypeError, match="MLPClassifier"):
        model_from_sklearn(3)
