"""Modules of Lightning and models in the style of Hugging Face are ``nn.Module``s; with the real packages."""

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

import unbraid

WORDS, STEPS = 40, 6


def needs(package):
    found = importlib.util.find_spec(package)
    return pytest.mark.skipif(found is None, reason=f"{package} is not installed: pip install {package}")


def lightning_module():
    import lightning

    class Intents(lightning.LightningModule):
        def __init__(self, units=12, rate=0.01):
            super().__init__()
            self.save_hyperparameters()
            self.words, self.lstm = nn.Embedding(WORDS, 8), nn.LSTM(8, units, batch_first=True)
            self.out, self.loss = nn.Linear(units, 3), nn.CrossEntropyLoss()

        def forward(self, x):
            return self.out(self.lstm(self.words(x))[0][:, -1])

        def training_step(self, batch, number):
            x, y = batch
            return self.loss(self(x), y)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), self.hparams.rate)

    return Intents()


def hugging_face_model():
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class Config(PretrainedConfig):
        model_type = "gru-intents"

        def __init__(self, units=12, **settings):
            super().__init__(**settings)
            self.units = units

    class Intents(PreTrainedModel):
        config_class = Config

        def __init__(self, config):
            super().__init__(config)
            self.words, self.gru = nn.Embedding(WORDS, 8), nn.GRU(8, config.units, batch_first=True)
            self.classifier = nn.Linear(config.units, config.num_labels)
            self.post_init()

        def forward(self, input_ids, attention_mask=None, labels=None):
            features = self.gru(self.words(input_ids))[0]
            last = features[:, -1]
            if attention_mask is not None:
                ends = attention_mask.sum(1) - 1
                last = features[torch.arange(len(features)), ends]
            logits = self.classifier(last)
            loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
            return SequenceClassifierOutput(loss=loss, logits=logits)

    return Intents(Config(num_labels=3))


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(1, WORDS, (90, STEPS)))


@needs("lightning")
def test_a_lightning_module_is_decomposed_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    module, x = lightning_module(), inputs()
    network = unbraid.Network.from_torch(module, x[:5], labels=["a", "b", "c"], init=dict(module.hparams))
    with torch.no_grad():
        np.testing.assert_allclose(network.logits(x), module.eval()(x).numpy(), atol=1e-6)
    parts = unbraid.decompose(network, (x, np.arange(90) % 3), keep=1.0)
    np.testing.assert_array_equal(unbraid.compose(parts).predict_index(x), network.predict_index(x))
    parts.save(tmp_path / "parts")
    loaded = unbraid.load_decomposition(tmp_path / "parts", module=type(module))
    np.testing.assert_allclose(loaded["a"].margins(x), parts["a"].margins(x), atol=1e-6)
    small = unbraid.shrink(module, x, keep=0.5)
    assert isinstance(small, type(module)) and small.lstm.hidden_size == 6
    assert small.training_step((x, torch.arange(90) % 3), 0).requires_grad  # it can be trained on


@needs("transformers")
def test_a_model_in_the_style_of_hugging_face_is_decomposed_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    module, x = hugging_face_model().eval(), inputs()
    mask = torch.ones_like(x)
    mask[::3, -2:] = 0
    batch = {"input_ids": x, "attention_mask": mask}
    network = unbraid.Network.from_torch(module, {name: each[:6] for name, each in batch.items()})
    with torch.no_grad():
        np.testing.assert_allclose(network.logits(batch), module(**batch).logits.numpy(), atol=1e-6)
    parts = unbraid.decompose(network, (batch, np.arange(90) % 3), keep=1.0)
    np.testing.assert_array_equal(unbraid.compose(parts).predict_index(batch), network.predict_index(batch))
    parts.save(tmp_path / "parts")
    loaded = unbraid.load_decomposition(tmp_path / "parts", module=hugging_face_model())
    np.testing.assert_allclose(loaded[0].margins(batch), parts[0].margins(batch), atol=1e-6)
