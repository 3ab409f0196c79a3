import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

from tests.wan import cases
from tests.wan.numbers import weights
from worldmodel.config import UserError
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.wan.prompts import load_prompts, padded, save_prompts
from worldmodel.wan.text_encoder import (
    BLOCK,
    TOKENIZER,
    UMT5_XXL,
    TextConfig,
    clean,
    embed,
    encode_prompts,
    load_text_encoder,
    load_tokenizer,
    text_encoder,
    transformers_names,
)
from worldmodel.wan.weight_files import difference

GOLDEN = Path(__file__).with_name("golden")
CPU = torch.device("cpu")


def released_shapes(config: TextConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of `models_t5_umt5-xxl-enc-bf16.pth`, at any size."""
    inner, width = config.heads * config.head_width, config.width
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (config.vocabulary, width),
        "norm.weight": (width,),
    }
    of = {
        "norm1": (width,),
        "norm2": (width,),
        "attn.q": (inner, width),
        "attn.k": (inner, width),
        "attn.v": (inner, width),
        "attn.o": (width, inner),
        "pos_embedding.embedding": (32, config.heads),
        "ffn.gate.0": (config.feed_forward, width),
        "ffn.fc1": (config.feed_forward, width),
        "ffn.fc2": (width, config.feed_forward),
    }
    assert of.keys() == BLOCK.keys()
    for layer in range(config.layers):
        shapes |= {f"blocks.{layer}.{name}.weight": shape for name, shape in of.items()}
    return shapes


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the release's: weights, and a small tokenizer in the real one's place."""
    folder = tmp_path_factory.mktemp("wan")
    torch.save(weights(released_shapes(cases.TEXT), cases.TEXT_GAIN), folder / "encoder.pth")
    words = ["<pad>", "</s>", "<unk>", "a", "red", "ball", "house", "&"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    (folder / TOKENIZER).mkdir(parents=True)
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(folder / TOKENIZER / "tokenizer.json"))
    return folder


def test_the_encoder_gives_what_the_reference_gives_for_padded_prompts(files: Path) -> None:
    encoder = load_text_encoder(files / "encoder.pth", cases.TEXT)
    for row, expected in load_file(GOLDEN / "text.safetensors").items():
        count = len(expected)
        ids = [number % (cases.TEXT.vocabulary - 1) + 1 for number in range(count)]
        assert count == cases.TOKENS[int(row.removeprefix("prompt."))]
        torch.testing.assert_close(embed(encoder, ids, CPU), expected, rtol=0, atol=2e-5)


def half_encoder(folder: Path) -> nn.Module:
    """In bfloat16, so that weights that visit in fp32 are other tensors."""
    half = {name: t.bfloat16() for name, t in weights(released_shapes(cases.TEXT), 1.0).items()}
    torch.save(half, folder / "half.pth")
    return load_text_encoder(folder / "half.pth", cases.TEXT)


def test_weights_only_visit_and_stay_mapped(tmp_path: Path) -> None:
    encoder = half_encoder(tmp_path)
    places = {name: tensor.data_ptr() for name, tensor in encoder.state_dict().items()}
    assert embed(encoder, [3, 4, 1], CPU).dtype == torch.float32
    with pytest.raises(IndexError):
        embed(encoder, [10**6], CPU)
    after = encoder.state_dict()
    assert {name: tensor.data_ptr() for name, tensor in after.items()} == places
    assert all(tensor.dtype == torch.bfloat16 for tensor in after.values())


def test_a_part_that_fails_leaves_no_weights_behind(tmp_path: Path) -> None:
    encoder = half_encoder(tmp_path)
    places = {name: tensor.data_ptr() for name, tensor in encoder.state_dict().items()}

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    inner = encoder.get_submodule("encoder.block.1.layer.1")
    hook = inner.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        embed(encoder, [3, 1], CPU)
    hook.remove()
    assert {name: t.data_ptr() for name, t in encoder.state_dict().items()} == places
    assert torch.isfinite(embed(encoder, [3, 1], CPU)).all()


def test_the_full_size_names_fit_transformers_one_to_one() -> None:
    with torch.device("meta"):
        released = {n: torch.empty(s) for n, s in released_shapes(UMT5_XXL).items()}
    assert len(released) == 242
    assert sum(tensor.numel() for tensor in released.values()) == 5_680_910_336
    named = transformers_names(released)
    assert len(named) == 243  # the embedding has two names there
    assert not difference(text_encoder(UMT5_XXL), named)
    assert not difference(text_encoder(UMT5_XXL), transformers_names(named))
    named.pop("encoder.block.23.layer.0.layer_norm.weight")
    named["blocks.5.attn.other.weight"] = torch.empty(1)
    found = difference(text_encoder(UMT5_XXL), transformers_names(named))
    assert found.missing == ("encoder.block.23.layer.0.layer_norm.weight",)
    assert found.unexpected == ("blocks.5.attn.other.weight",)


def test_prompts_become_embeddings_of_their_own_length(files: Path) -> None:
    prompts = ["a red ball", "a  red\n ball ", "house &amp;amp; ball"]
    one, same, other = encode_prompts(prompts, files / "encoder.pth", files, CPU, cases.TEXT)
    assert one.shape == (4, cases.TEXT.width)  # three words and the end
    assert torch.equal(one, same)
    encoder = load_text_encoder(files / "encoder.pth", cases.TEXT)
    assert torch.equal(other, embed(encoder, [6, 7, 5, 1], CPU))


def test_cleaning_repairs_text() -> None:
    assert clean("  a &amp;lt;b\t\nâ€œredâ€\x9d ") == 'a <b "red"'


def test_a_long_prompt_is_cut_and_keeps_its_end(files: Path) -> None:
    tokenizer = load_tokenizer(files / TOKENIZER / "tokenizer.json", cases.TEXT)
    ids = tokenizer.encode("ball " * 1000).ids
    assert len(ids) == cases.TEXT.longest
    assert ids[-1] == 1


def test_a_tokenizer_that_is_not_there_or_not_the_right_one_is_named(
    files: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no tokenizer\.json there"):
        load_tokenizer(tmp_path, cases.TEXT)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokenizer"):
        load_tokenizer(tmp_path, cases.TEXT)
    few = TextConfig(
        vocabulary=4, width=8, head_width=4, heads=2, feed_forward=8, layers=1, longest=8
    )
    with pytest.raises(UserError, match="a tokenizer of 8 words, the encoder knows 4"):
        load_tokenizer(files, few)


def test_without_a_path_the_cache_is_asked_and_offline_says_so(files: Path, tmp_path: Path) -> None:
    code = (
        "from worldmodel.config import UserError\n"
        "from worldmodel.wan.text_encoder import load_tokenizer, UMT5_XXL\n"
        "try: print(load_tokenizer(None, UMT5_XXL).encode('a red').ids)\n"
        "except UserError as error: print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    def run() -> str:
        return subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert run().startswith(f"the tokenizer {TOKENIZER} is neither in Hugging Face's cache")
    cached = tmp_path / "models--google--umt5-xxl"
    (cached / "snapshots" / "abc").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    shutil.copy(files / TOKENIZER / "tokenizer.json", cached / "snapshots" / "abc")
    assert run() == "[3, 4, 1]"


def embeddings() -> dict[str, Tensor]:
    return {"a red ball": torch.randn(4, 6), "Ein Hügel, 山": torch.randn(2, 6).bfloat16()}


def test_saved_prompts_read_back_and_are_padded_with_zeros(tmp_path: Path) -> None:
    path, saved = tmp_path / "prompts.safetensors", embeddings()
    save_prompts(path, saved, encoder="umt5")
    loaded = load_prompts(path)
    assert list(loaded) == list(saved)
    assert all(torch.equal(loaded[text], saved[text]) for text in saved)
    text = padded(loaded["a red ball"], 512)
    assert text.shape == (512, 6)
    assert torch.equal(text[:4], saved["a red ball"])
    assert not text[4:].any()
    with pytest.raises(CheckpointError, match="4 tokens, expected at most 3"):
        padded(loaded["a red ball"], 3)


@pytest.mark.parametrize(
    ("tensors", "header"),
    [
        ({"prompt.00000": torch.zeros(2, 3)}, {}),
        ({"prompt.00000": torch.zeros(2, 3)}, {"format": 2, "prompts": ["a"]}),
        ({"prompt.00000": torch.zeros(2, 3)}, {"format": 1, "prompts": ["a", "b"]}),
        ({"other": torch.zeros(2, 3)}, {"format": 1, "prompts": ["a"]}),
        ({"prompt.00000": torch.zeros(2)}, {"format": 1, "prompts": ["a"]}),
        ({"prompt.00000": torch.full((2, 3), torch.nan)}, {"format": 1, "prompts": ["a"]}),
        (
            {"prompt.00000": torch.zeros(2, 3), "prompt.00001": torch.zeros(2, 4)},
            {"format": 1, "prompts": ["a", "b"]},
        ),
        (
            {"prompt.00000": torch.zeros(2, 3), "prompt.00001": torch.zeros(2, 3)},
            {"format": 1, "prompts": ["a", "a"]},
        ),
    ],
)
def test_a_file_of_prompts_that_is_none_is_refused(
    tmp_path: Path, tensors: dict[str, Tensor], header: dict[str, object]
) -> None:
    save_tensors(tmp_path / "p.safetensors", tensors, header)
    with pytest.raises(CheckpointError, match=r"p\.safetensors"):
        load_prompts(tmp_path / "p.safetensors")


def test_no_nonsense_is_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a finite embedding"):
        save_prompts(tmp_path / "p", {"a": torch.zeros(1, 2, 3)}, encoder="x")
    assert not (tmp_path / "p").exists()


def test_the_encoder_needs_its_extra(monkeypatch: pytest.MonkeyPatch, files: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'worldmodel\[wan\]'"):
        load_text_encoder(files / "encoder.pth", cases.TEXT)
