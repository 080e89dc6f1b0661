"""`etc-data audit`: the whole command on real photos, its page and its figures."""

import base64
import copy
import json
import re
import shutil
import stat
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import timm

from etc_data import SecretKey

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def owner(tmp_path_factory, etc, pictures):
    """A folder with a key and two data sets: one key for all, and a key for each and small blocks."""
    folder = tmp_path_factory.mktemp("owner")
    SecretKey(bytes(range(7, 39))).save(folder / "key")  # it decides which photos are attacked first
    for scope, scheme in (("dataset", "etc-16"), ("image", "etc-8")):
        options = ["--key", folder / "key", "--size", "96", "--limit", "40", "--key-scope", scope]
        options += ["--scheme", scheme, "--quality", "50"]
        done = etc("encrypt", pictures / "imagenette128", folder / scope, *options)
        assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def audited(owner, etc):
    """Runs the audit once for each data set, with and without the key."""
    results = {}
    for scope in ("dataset", "image"):
        for name, key in (("key", ["--key", owner / "key"]), ("stranger", ["--no-key"])):
            out = owner / f"report-{scope}-{name}"
            done = etc("audit", owner / scope, *key, "-o", out, "--quick", "--json")
            assert done.code == 0, done.err
            report = json.loads((out / "report.json").read_text())
            assert json.loads(done.out) == report
            results[scope, name] = report, (out / "report.html").read_text(), done
    return results


def outcomes(report):
    return {(row["attack"], row["success"]) for row in report["attacks"]}


def test_one_key_for_all_is_broken_by_who_reads_the_bucket(audited):
    report, _, done = audited["dataset", "key"]
    assert report["broken"]
    assert {name: a["verdict"] for name, a in report["attackers"].items()} == {
        "reader of the bucket": "broken",
        "training provider": "broken",
        "inference provider": "not tried",
        "one who knows a photo": "broken",
        "one who can submit photos": "broken",
    }
    most = [row for row in report["attacks"] if row["attack"] == "topology"][-1]
    assert most["scores"]["joins"] > 0.9
    assert most["scores"]["ssim"] > 0.9
    assert "BROKEN" in done.err


def test_a_key_for_each_image_leaves_membership(audited):
    report, _, done = audited["image", "key"]
    assert not report["broken"]
    assert report["attackers"]["one who knows a photo"]["verdict"] == "leaks"
    assert report["attackers"]["one who can submit photos"]["verdict"] == "held"
    assert ("recognition", True) in outcomes(report)
    assert ("known plaintext", True) not in outcomes(report)
    assert "BROKEN" not in done.err


def test_stranger_breaks_it_too_and_sees_no_plain_image(audited):
    report, page, _ = audited["dataset", "stranger"]
    assert report["broken"]
    for attacker in ("training provider", "one who knows a photo", "one who can submit photos"):
        assert report["attackers"][attacker]["verdict"] == "broken"
    assert {row["attack"] for row in report["not_tried"]} >= {"known plaintext", "chosen plaintext"}
    assert "plain picture" not in page
    assert "encrypted picture" not in page
    assert "restored picture" in page
    assert not audited["image", "stranger"][0]["broken"]


def test_each_attack_has_what_the_format_names(audited):
    for report, _, _ in audited.values():
        assert report["format"] == "etc-data-audit/1"
        for row in report["attacks"]:
            assert row.keys() >= {"attack", "scheme", "key_scope", "attacker_holds", "success"}
            assert isinstance(row["scores"], dict)
            assert row["seconds"] >= 0
            assert row["criterion"]["score"] in row["scores"] or not row["success"]


def test_page_needs_no_network_and_knows_no_secret(audited, owner, pictures):
    secret = SecretKey.load(owner / "key")._secret
    words = re.findall(r"[0-9a-zA-Z+/=_-]{24,}", (owner / "key").read_text())
    words += [secret.hex(), base64.b64encode(secret).decode().rstrip("=")]
    for report, page, done in audited.values():
        assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:)", page)
        assert "@import" not in page
        assert "url(" not in page
        assert "default-src 'none'" in page
        for word in words:
            assert word not in page + json.dumps(report) + done.err


def test_only_the_owner_may_look(owner, audited):
    for folder in owner.glob("report-*"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_page_fits_the_window_of_a_browser(audited, tmp_path, width):
    (tmp_path / "page.html").write_text(audited["dataset", "key"][1])
    (tmp_path / "frame.html").write_text(
        f'<iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>onload = () => { const page = frames[0].document; document.title = "
        "[page.documentElement.scrollWidth, frames[0].innerWidth, [...page.images].filter("
        "i => i.naturalWidth > 0).length, page.images.length].join(' ') }</script>"
    )
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--allow-file-access-from-files", "--virtual-time-budget=5000"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width + 40},1000"),
            *("--dump-dom", f"file://{tmp_path}/frame.html"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search("<title>(.*?)</title>", done.stdout)
    assert title is not None, done.stdout[:500]
    scroll, window, loaded, images = map(int, title[1].split())
    assert window == width
    assert scroll <= width
    assert loaded == images > 10


def test_refusals_come_before_any_work(owner, etc, tmp_path):
    (tmp_path / "full").mkdir()
    full = tmp_path / "full" / "mine"
    full.write_text("mine")
    key = ["--key", owner / "key"]
    assert etc("keygen", tmp_path / "other").code == 0
    for arguments, message in (
        ([owner / "dataset", *key, "-o", tmp_path / "full"], "is not empty"),
        ([owner / "dataset", *key, "-o", owner / "dataset" / "report"], "inside the data set"),
        ([owner / "dataset", "--key", tmp_path / "other", "-o", tmp_path / "r"], "the key given is"),
        ([owner / "dataset", *key, "--architecture", "x", "-o", tmp_path / "r"], "add --base"),
        ([owner / "dataset", *key, "--no-key", "-o", tmp_path / "r"], "exclude each other"),
        ([owner / "dataset", *key, "--lpips", full, "-o", tmp_path / "r"], "no weights of LPIPS"),
        ([owner / "dataset", "--no-key", "--lpips", full, "-o", tmp_path / "r"], "take the key"),
        ([owner / "dataset", *key, "-o", "s3://bucket/report"], "must be a folder of this machine"),
        ([tmp_path / "full", *key, "-o", tmp_path / "r"], "no finished data set"),
        ([owner / "dataset", *key, "--split", "tset", "-o", tmp_path / "r"], "no split 'tset'"),
    ):
        done = etc("audit", *arguments, "--quick")
        assert message in done.error, done.error
        assert not (tmp_path / "r").exists()
    assert full.read_text() == "mine"


@pytest.mark.parametrize("columns", [40, 80])
def test_lines_are_as_wide_as_the_terminal(owner, etc, tmp_path, columns):
    arguments = ["--images", "3", "--no-key", "--quick", "-o", tmp_path / "r"]
    done = etc("audit", owner / "dataset", *arguments, environment={"COLUMNS": str(columns)})
    lines = [line for line in done.err.splitlines() if str(tmp_path) not in line]
    assert len(lines) > 8
    assert max(map(len, lines)) <= columns
    assert done.out == ""


@pytest.mark.parametrize("fault", ["terminated", "disk full"])
def test_half_an_audit_leaves_nothing(owner, child_environment, tmp_path, fault):
    command = [sys.executable, "-m", "etc_data.cli.main", "audit", owner / "dataset", "--quick"]
    command += ["--images", "3", "--key", owner / "key", "-o", tmp_path / "new" / "report"]
    if fault == "disk full":
        command = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", *command]
    process = subprocess.Popen(command, env=child_environment(), stderr=subprocess.PIPE, text=True)
    if fault == "terminated":
        while process.poll() is None and not (tmp_path / "new" / "report").exists():
            time.sleep(0.01)
        process.terminate()
    _, err = process.communicate(timeout=120)
    assert (process.returncode, fault) in ((143, "terminated"), (1, "disk full"))
    assert "cannot be written" in err or fault == "terminated"
    assert list(tmp_path.iterdir()) == []


def test_encrypted_model_gives_its_queries_away(tmp_path, etc, pictures):
    from etc_data import Cipher
    from etc_data.models import encrypt_model, save_encrypted_model

    torch.manual_seed(0)
    plain = timm.create_model("vit_tiny_patch16_224", img_size=96, num_classes=10).eval()
    tuned = copy.deepcopy(plain)
    with torch.no_grad():
        weight = tuned.patch_embed.proj.weight
        weight += 0.2 * weight.std() * torch.randn_like(weight)
    assert etc("keygen", tmp_path / "key").code == 0
    options = ["--key", tmp_path / "key", "--size", "96", "--limit", "8", "--scheme", "ind-16/8"]
    assert etc("encrypt", pictures / "imagenette128", tmp_path / "set", *options).code == 0
    cipher = Cipher("ind-16/8", SecretKey.load(tmp_path / "key"))
    model = encrypt_model(tuned, cipher, image_size=96, mean=(0.5,) * 3, std=(0.5,) * 3)
    save_encrypted_model(model, tmp_path / "model.safetensors")
    save_file(plain.state_dict(), tmp_path / "base.safetensors")
    given = ["--model", tmp_path / "model.safetensors", "--base", tmp_path / "base.safetensors"]
    given += ["--architecture", "vit_tiny_patch16_224"]
    key = ["--key", tmp_path / "key", "--quick"]
    done = etc("audit", tmp_path / "set", *key, *given, "-o", tmp_path / "report")
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["attackers"]["inference provider"]["verdict"] == "broken"
    assert {("row matching", True), ("base weights", True)} <= outcomes(report)
    done = etc("audit", tmp_path / "set", *key, *given[2:], "-o", tmp_path / "again")
    assert "add --model" in done.error
    options[1] = tmp_path / "other"
    assert etc("keygen", tmp_path / "other").code == 0
    assert etc("encrypt", pictures / "imagenette128", tmp_path / "second", *options).code == 0
    done = etc("audit", tmp_path / "second", "--no-key", *given, "-o", tmp_path / "again")
    assert "the model was encrypted with key" in done.error
