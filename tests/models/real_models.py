"""The real models: where each comes from, its reference inputs, and the answer it must give.

Every function of `ENTRIES` writes the files of one entry through a `Workshop` and returns its rows of the manifest
(README.md says what is in a row). It also checks that ONNX Runtime gives the stated answer, so that a test that
asks the same of Kiln asks for something that is so.
"""

import ast
import io
import json
import os

import numpy as np
import onnx
from onnx import numpy_helper

import answers
import efficientnet
import esrgan
import minilm
import packages
import pictures
import reference
import sounds
import torch_checkpoint

# f32 sums of a few thousand terms in another order differ by about 1e-6 of the largest output; 1e-4 leaves room for
# the depth of the models and for Winograd convolution, and is far below what a wrong layer does.
TOLERANCE = 1e-4
DRAWN_TEXTS = ("MNIST 98.7%", "Kiln 2026", "0123456789", "fire once, run many", "static graph", "Hello, world!")
SENTENCES = ("That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day")


class WrongAnswer(Exception):
    """ONNX Runtime did not give the answer that the manifest would promise."""


def require(holds, text):
    """Raises unless the condition holds."""
    if not holds:
        raise WrongAnswer(text)


class Workshop:
    """The output folder and the downloads; files appear whole or not at all."""

    def __init__(self, out, downloads):
        self.out, self.downloads = out, downloads

    def read(self, package, member):
        """A file of a package."""
        return self.downloads.read(package, member)

    def write(self, name, data):
        """A file of the output folder; returns its name."""
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(data)
        os.replace(temporary, path)
        return name

    def case(self, model, name, inputs, dims=None, **more):
        """A case of a model that is written already, and the outputs of ONNX Runtime in order."""
        npz = f"{model}.npz" if name is None else f"{model}.{name}.npz"
        described = reference.make(str(self.out / f"{model}.onnx"), str(self.out / npz), inputs)
        row = {"name": name or "reference", "npz": npz, "dims": dims or {}, **described, **more}
        with np.load(self.out / npz) as arrays:
            return row, [arrays[o["array"]] for o in described["outputs"]]

    def font(self):
        """DejaVu Sans."""
        return self.read(packages.MATPLOTLIB, "DejaVuSans.ttf")


def row(name, package, member, data, cases, **more):
    """The manifest row of a model whose bytes are `data`."""
    opset = next(o.version for o in onnx.load_from_string(data).opset_import if o.domain in ("", "ai.onnx"))
    return {"name": name, "file": f"{name}.onnx", "opset": opset, "package": package.title, "member": member,
            "licence": package.licence, "tolerance": TOLERANCE, "cases": cases, **more}


def efficientnet_lite0(shop):
    """Twenty labelled photographs, 18 of them recognised."""
    name, member = "efficientnet_lite0", "models/efficientnet-lite0-57934424.pth"
    data = efficientnet.build(torch_checkpoint.load(shop.read(packages.EFFICIENTNET, member)))
    shop.write(f"{name}.onnx", data)
    cases, first, fifth = [], 0, 0
    photographs = sorted(m for m in shop.downloads.members(packages.FOOLBOX) if m.startswith("imagenet_"))
    for photograph in photographs:
        _, number, label = photograph.removesuffix(".jpg").split("_")
        image = shop.write(f"photographs/{photograph}", shop.read(packages.FOOLBOX, photograph))
        picture = pictures.open_rgb((shop.out / image).read_bytes())
        case, (probabilities,) = shop.case(name, None if number == "00" else f"photograph_{number}",
                                           {"image": pictures.classifier_input(picture)}, {"N": 1})
        top = answers.top_k(probabilities[0], 5)
        first, fifth = first + (top[0] == int(label)), fifth + (int(label) in top)
        cases.append(case | {"image": image, "expect": {"label": int(label), "top_5": top}})
    require((len(cases), first, fifth) == (20, 18, 19), f"of {len(cases)} photographs {first} top-1, {fifth} top-5; expected 18 and 19 of 20")
    return [row(name, packages.EFFICIENTNET, member, data, cases, labels="imagenet_labels.txt",
                preprocess="RGB; bicubic (a = -0.5, antialiased, rounded to 8 bits) so that the short side is 256; centre crop "
                           "224; (x - 127) / 128; NCHW",
                expect={"kind": "classify", "top_1_at_least": 18, "top_5_at_least": 19, "of": 20,
                        "source": f"ONNX Runtime on the labelled photographs of {packages.FOOLBOX.title}"})]


def ppocr_v4_rec(shop):
    """Strings drawn in DejaVu Sans, each as wide as it comes."""
    name, member = "ppocr_v4_rec", "ch_PP-OCRv4_rec_infer.onnx"
    data = shop.read(packages.RAPIDOCR, member)
    shop.write(f"{name}.onnx", data)
    metadata = {p.key: p.value for p in onnx.load_from_string(data).metadata_props}
    alphabet = [*metadata["character"].split("\n"), " "]
    dictionary = shop.write(f"{name}.dictionary.txt", ("\n".join(alphabet) + "\n").encode())
    cases = []
    for i, text in enumerate(DRAWN_TEXTS):
        picture = pictures.text_line(text, shop.font())
        image = shop.write(f"drawn/text_{i}.png", pictures.png(picture))
        dims = dict(zip(("p2o.DynamicDimension.0", "?", "p2o.DynamicDimension.1"), (1, 48, picture.width)))
        case, (probabilities,) = shop.case(name, f"text_{i}" if i else None, {"x": pictures.text_input(picture)}, dims)
        require(probabilities.shape[2] == len(alphabet) + 1, f"{probabilities.shape[2]} classes, {len(alphabet)} characters")
        read = answers.ctc_text(probabilities[0], alphabet)
        require(read == text, f"drawn {text!r}, read {read!r}")
        cases.append(case | {"image": image, "expect": {"text": text}})
    return [row(name, packages.RAPIDOCR, member, data, cases, dictionary=dictionary,
                preprocess="RGB; (x / 255 - 0.5) / 0.5; NCHW; no resizing, the pictures are 48 high",
                expect={"kind": "ctc_text", "blank": 0, "source": "the strings that were drawn",
                        "dictionary": "class i is line i of the dictionary file, counted from 1; it is the model's metadata "
                                      "`character` split at line feeds, and a space at the end"})]


def ddddocr_det(shop):
    """Two drawn letters, two boxes."""
    name, member = "ddddocr_det", "common_det.onnx"
    data = shop.read(packages.DDDDOCR, member)
    shop.write(f"{name}.onnx", data)
    picture = pictures.two_letters(shop.font())
    image = shop.write("drawn/two_letters.png", pictures.png(picture))
    case, (rows,) = shop.case(name, None, {"images": pictures.detector_input(picture)}, {})
    found = answers.yolox_boxes(rows[0])
    scores = sorted(round(score, 2) for _, score in found)
    require(scores == [0.88, 0.91], f"scores of the boxes: {scores}, expected 0.88 and 0.91")
    boxes = [{"xyxy": [round(v, 2) for v in box], "score": round(score, 5)} for box, score in found]
    return [row(name, packages.DDDDOCR, member, data, [case | {"image": image, "expect": {"boxes": boxes}}],
                preprocess="BGR; 0 to 255 as they are; NCHW; no resizing, the picture is 416 x 416",
                expect={"kind": "yolox_boxes", "strides": [8, 16, 32], "score_at_least": 0.1, "overlap_below": 0.45,
                        "score_tolerance": 1e-3, "pixel_tolerance": 0.5,
                        "source": "ONNX Runtime; the boxes lie around the two letters that were drawn"})]


def minilm_l6(shop):
    """Similarities of four sentences, padded in one batch, and one sentence alone."""
    name, member = "minilm_l6", "model.safetensors"
    data = minilm.build(minilm.read_safetensors(shop.read(packages.MINILM, member)))
    shop.write(f"{name}.onnx", data)
    vocabulary = shop.read(packages.MINILM, "vocab.txt").decode().splitlines()
    inputs = minilm.tokenize(vocabulary, SENTENCES)
    n, t = inputs["input_ids"].shape
    case, (embedding,) = shop.case(name, None, inputs, {"N": n, "T": t})
    cosines = [float(embedding[0] @ embedding[i]) for i in (1, 2, 3)]
    expected = [0.6946, 0.9429, 0.2569]
    require(np.allclose(cosines, expected, atol=1e-4), f"cosines {cosines}, expected {expected}")
    case |= {"sentences": list(SENTENCES), "expect": {"cosines_of_row_0": {str(i + 1): round(c, 5) for i, c in enumerate(cosines)}}}
    alone, (single,) = shop.case(name, "one_sentence", minilm.tokenize(vocabulary, SENTENCES[:1]), {"N": 1, "T": 7})
    require(abs(float(single[0] @ embedding[0]) - 1) < 1e-5, "the padding changes an embedding")
    return [row(name, packages.MINILM, member, data, [case, alone],
                expect={"kind": "cosines", "cosine_tolerance": 1e-4, "source": "ONNX Runtime"})]


def blazeface_front(shop):
    """The face of scikit-image's astronaut."""
    name, member = "blazeface_front", "ONNX/face_detection_front_128x128_barracuda.onnx"
    data = shop.read(packages.BLAZEFACE, member)
    shop.write(f"{name}.onnx", data)
    image = shop.write("photographs/astronaut.png", shop.read(packages.SCIKIT_IMAGE, "astronaut.png"))
    picture = pictures.open_rgb((shop.out / image).read_bytes())
    case, outputs = shop.case(name, None, {"input:0": pictures.face_input(picture)}, {})
    score, centre = answers.best_face(outputs[0], outputs[2])
    centre = [c * picture.width for c in centre]
    require(round(score, 3) == 0.921 and np.allclose(centre, (226, 129), atol=1), f"score {score}, centre {centre}; expected 0.921 at (226, 129)")
    return [row(name, packages.BLAZEFACE, member, data,
                [case | {"image": image, "expect": {"best_score": round(score, 4), "centre": [round(c, 1) for c in centre]}}],
                preprocess="RGB; bilinear (antialiased, rounded to 8 bits) to 128 x 128; x / 127.5 - 1; NHWC",
                expect={"kind": "face", "score_tolerance": 1e-3, "pixel_tolerance": 1.0, "scores_output": 0, "boxes_output": 2,
                        "source": "ONNX Runtime; the point lies on the face"})]


def silero_vad(shop):
    """Synthetic vowels between silences are speech, the silences are not."""
    name, member = "silero_vad", "silero_vad_16k_sequence.onnx"
    data = shop.read(packages.SILERO, member)
    shop.write(f"{name}.onnx", data)
    state = np.zeros((1, 1, 128), np.float32)
    frames = sounds.frames(sounds.voice_between_silences())
    case, (speech, _, _) = shop.case(name, None, {"input": frames, "h": state, "c": state}, {"sequence_length": len(frames)})
    require(speech[:7].max() < 0.5 and speech[9:25].min() > 0.5, f"probabilities of speech: {[round(float(p), 2) for p in speech]}")
    case["expect"] = {"speech_in_frames": [9, 25], "at_least": 0.5, "silence_in_frames": [0, 7], "below": 0.5}
    return [row(name, packages.SILERO, member, data, [case], expect={"kind": "speech", "source": "where the vowels were put"})]


def esrgan_slim_x2(shop):
    """The picture that the package comes with, and what it says the result is."""
    name, member = "esrgan_slim_x2", "models/x2/model.json"
    layers, weights = esrgan.read_layers_model(shop.read(packages.ESRGAN, member),
                                               shop.read(packages.ESRGAN, "models/x2/group1-shard1of1.bin"))
    data = esrgan.build(layers, weights)
    shop.write(f"{name}.onnx", data)
    image = shop.write("photographs/esrgan_fixture.png", shop.read(packages.ESRGAN, "assets/fixture.png"))
    wanted = shop.write("photographs/esrgan_result.png", shop.read(packages.ESRGAN, "assets/samples/2x/result.png"))
    picture = pictures.open_rgb((shop.out / image).read_bytes())
    case, (result,) = shop.case(name, None, {"input": pictures.upscaler_input(picture)},
                                {"N": 1, "H": picture.height, "W": picture.width})
    pixels = np.clip(result[0], 0, 255).round().astype(np.uint8)
    decibels = answers.psnr(pixels, np.asarray(pictures.open_rgb((shop.out / wanted).read_bytes())))
    require(decibels > 58, f"{decibels:.1f} dB against the package's result, expected 58.9")
    return [row(name, packages.ESRGAN, member, data, [case | {"image": image, "expect": {"image": wanted, "psnr_at_least": 58.0}}],
                preprocess="RGB; 0 to 255 as they are; NHWC",
                expect={"kind": "psnr", "source": f"the sample of {packages.ESRGAN.title}, made by TensorFlow.js"})]


def light_zoo(shop):
    """Nine published architectures with constant weights: import, shapes and memory planning rather than numerics."""
    rows = []
    for member in sorted(m for m in shop.downloads.members(packages.ONNX) if m.startswith("light/") and m.endswith(".onnx")):
        name = member.removeprefix("light/").removesuffix(".onnx")
        data = shop.read(packages.ONNX, member)
        shop.write(f"{name}.onnx", data)
        graph = onnx.load_from_string(data).graph
        given = {i.name for i in graph.initializer}
        feed = next(i for i in graph.input if i.name not in given)
        shape = [d.dim_value for d in feed.type.tensor_type.shape.dim]
        count = int(np.prod(shape))
        case, (output,) = shop.case(name, None, {feed.name: (np.arange(count) / count).astype(np.float32).reshape(shape)})
        published = numpy_helper.to_array(onnx.load_tensor_from_string(shop.read(packages.ONNX, f"light/{name}_output_0.pb")))
        error = np.abs(output - published).max() / np.abs(published).max()
        require(error < 1e-5, f"{name}: off the published output by {error:.1e}")
        rows.append(row(name, packages.ONNX, member, data, [case],
                        expect={"kind": "reference_only", "source": f"{name}_output_0.pb beside the model"}))
    require(len(rows) == 9, f"expected nine light models, found {len(rows)}")
    return rows


def imagenet_labels(shop):
    """The 1,000 class names of ImageNet, in order."""
    tree = ast.parse(shop.read(packages.TORCHVISION, "_meta.py"))
    names = next(ast.literal_eval(n.value) for n in tree.body
                 if isinstance(n, ast.Assign) and n.targets[0].id == "_IMAGENET_CATEGORIES")
    require(len(names) == 1000, f"expected 1000 class names, found {len(names)}")
    return [{"name": "imagenet_labels", "file": shop.write("imagenet_labels.txt", ("\n".join(names) + "\n").encode()),
             "package": packages.TORCHVISION.title, "licence": packages.TORCHVISION.licence}]


def mnist(shop):
    """Ten thousand handwritten digits."""
    images, labels = [], []
    for digit in range(10):
        values = np.array(json.loads(shop.read(packages.MNIST, f"src/digits/{digit}.json"))["data"])
        pixels = np.rint(values * 255)
        # The package rounds pixels / 255 to a few decimals; they come back exactly.
        require(np.abs(values * 255 - pixels).max() < 0.2, f"digit {digit}: values are not 8-bit pixels over 255")
        pixels = pixels.astype(np.uint8).reshape(-1, 28, 28)
        images.append(pixels)
        labels += [digit] * len(pixels)
    images = np.concatenate(images)
    require(len(images) == 10_000, f"expected 10,000 digits, found {len(images)}")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images, labels=np.array(labels, np.uint8))
    return [{"name": "mnist", "file": shop.write("mnist.npz", buffer.getvalue()), "package": packages.MNIST.title,
             "licence": packages.MNIST.licence}]


def onnx_node_tests(shop):
    """The conformance tests of the ONNX project."""
    folders = ("node/", "simple/", "pytorch-converted/", "pytorch-operator/")
    models = 0
    for member in shop.downloads.members(packages.ONNX):
        if member.startswith(folders):
            shop.write(f"onnx-tests/{member}", shop.read(packages.ONNX, member))
            models += member.endswith("/model.onnx")
    require(models > 1288, f"expected more than 1,288 tests, found {models}")
    return [{"name": "onnx_node_tests", "file": "onnx-tests", "package": packages.ONNX.title, "licence": packages.ONNX.licence}]


MODELS = {f.__name__: f for f in (efficientnet_lite0, ppocr_v4_rec, ddddocr_det, minilm_l6, blazeface_front, silero_vad,
                                  esrgan_slim_x2, light_zoo)}
DATA = {f.__name__: f for f in (imagenet_labels, mnist, onnx_node_tests)}
