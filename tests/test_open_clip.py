"""open_clip's towers as perceptors, by real networks with random weights."""

import json
import logging

import pytest
import torch
from checkpoint_files import random_clip, write_openai
from safetensors.torch import save_file

from vqclip import UserError, run
from vqclip.checkpoints.catalogue import cards
from vqclip.checkpoints.load import load_perceptor

open_clip = pytest.importorskip("open_clip")

B32 = {
    "embed_dim": 512,
    "image_resolution": 224,
    "vision_layers": 12,
    "vision_width": 768,
    "vision_patch_size": 32,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 512,
    "transformer_heads": 8,
    "transformer_layers": 12,
}
OPEN_CLIP = {"_target_": "vqclip.models.open_clip.OpenCLIP"}


def test_open_clips_vit_b_32_gives_openai_clips_vectors(tmp_path, monkeypatch):
    """The same file, random weights in OpenAI's format, by both classes: the same vectors to 1e-5."""
    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path / "home"))
    path = write_openai(tmp_path / "ViT-B-32.pt", random_clip(B32), B32)
    ours = load_perceptor("ours", {"path": str(path)})
    theirs = load_perceptor("theirs", {**OPEN_CLIP, "model": "ViT-B-32-quickgelu", "path": str(path)})
    assert theirs.input_size == 224 and ours.sha256 == theirs.sha256
    texts = ["a red apple on a blue background", "ein Fuchs, über den Zaun", "a " * 200]
    crops = torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for one, other in [
            (ours.encode_text(texts), theirs.encode_text(texts)),
            (ours.encode_image(crops), theirs.encode_image(crops)),
        ]:
            worst = (torch.nn.functional.normalize(one) - torch.nn.functional.normalize(other)).abs().max()
            print(f"largest difference {worst:.1e}")
            assert worst < 1e-5


@pytest.fixture
def small_tower(tmp_path):
    """The name and the file of a SigLIP-like tower: timm's, with a text tower of its own."""
    config = {
        "embed_dim": 24,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {"image_size": 224, "timm_model_name": "vit_tiny_patch16_224", "timm_proj": "linear"},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }  # fmt: skip
    (tmp_path / "small-tower.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "small-tower.json")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = open_clip.create_model("small-tower")
    weights = {f"module.{name}": value.contiguous() for name, value in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "small.pt")
    return model.eval(), str(tmp_path / "small.pt")


def test_a_tower_of_another_kind_with_its_own_normalisation_and_tokenizer(small_tower, tmp_path, monkeypatch):
    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path / "home"))
    model, path = small_tower
    half = [0.5, 0.5, 0.5]
    card = {**OPEN_CLIP, "model": "small-tower", "path": path, "mean": half, "std": half}
    logging.disable(logging.INFO)
    perceptor = load_perceptor("small", card)
    assert logging.root.manager.disable == logging.INFO  # as the caller had it
    logging.disable(logging.NOTSET)
    crops = torch.rand(2, 3, 224, 224)
    tokens = open_clip.get_tokenizer("small-tower")(["a fox", "owls " * 40])
    with torch.no_grad():
        assert torch.allclose(perceptor.encode_image(crops), model.encode_image(crops * 2 - 1), atol=1e-5)
        assert torch.allclose(perceptor.encode_text(["a fox", "owls " * 40]), model.encode_text(tokens), atol=1e-5)


def test_a_run_with_such_a_tower_in_an_ensemble(small_tower, small_pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path / "home"))
    tower = f"{{_target_: {OPEN_CLIP['_target_']}, model: small-tower, path: '{small_tower[1]}'}}"
    run("a fox " * 8, [*small_pair, f"+checkpoints.perceptors.tower={tower}"], tmp_path / "run")
    assert set(json.loads((tmp_path / "run/run.json").read_text())["weights"]) == {"generator", "embedded", "tower"}
    assert "tower reads the first 14 tokens of a text" in capsys.readouterr().err


def test_models_are_open_clips_own_and_nothing_from_outside():
    for name in ("ViT-B-23", "hf-hub:someone/model", "local-dir:/tmp"):
        with pytest.raises(UserError, match=r"not one of open_clip's \d+ models"):
            load_perceptor("x", {**OPEN_CLIP, "model": name})


@pytest.mark.parametrize("name,mean", [("ViT-B-16-SigLIP2", 0.5), ("convnext_base_w", 0.48145466)])
def test_normalisation_is_that_of_the_published_weights(name, mean):
    from vqclip.models.open_clip import _normalisation

    assert _normalisation(name)["mean"][0] == mean


def test_every_card_names_a_model_that_open_clip_has():
    found = [card for card in cards() if card.target == OPEN_CLIP["_target_"]]
    assert len(found) >= 8
    for card in found:
        assert card.arguments["model"] in open_clip.list_models() and card.kept != card.source and card.licence


def test_safetensors_that_were_fetched_are_kept_beside_themselves(tmp_path, monkeypatch):
    from vqclip.checkpoints.cards import make_card
    from vqclip.checkpoints.convert import ensure_weights

    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path))
    content = {**OPEN_CLIP, "model": "ViT-B-32", "file": "x.safetensors", "urls": ["https://example.org/x"]}
    card = make_card("perceptor", "x", content)
    card.source.parent.mkdir(parents=True)
    save_file({"module.a": torch.ones(2)}, card.source)
    weights = ensure_weights(card)
    assert card.source.is_file() and list(weights.shapes) == ["model.a"] and weights.path == card.kept
