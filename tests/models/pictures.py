"""Pictures to tensors, with every convention stated; and the pictures that are drawn.

Resizing is Pillow's: coordinates at pixel centres, and the filter widened by the scale when shrinking (antialiased);
BILINEAR is the triangle, BICUBIC the cubic with a = -0.5 (Catmull-Rom); results are rounded to 8 bits.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def open_rgb(data):
    """A decoded picture of three channels."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def png(picture):
    """The picture as the bytes of a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def classifier_input(picture, short_side=256, crop=224):
    """Bicubic to a short side of 256, centre crop of 224, (x - 127) / 128, [1, 3, 224, 224], RGB."""
    scale = short_side / min(picture.size)
    picture = picture.resize([round(n * scale) for n in picture.size], Image.Resampling.BICUBIC)
    left, top = ((n - crop) // 2 for n in picture.size)
    picture = picture.crop((left, top, left + crop, top + crop))
    pixels = (np.asarray(picture).astype(np.float32) - 127) / 128
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def text_line(text, font_data):
    """Black text of 32 px on white, 48 px high, 8 px from the left, 4 px from the top."""
    font = ImageFont.truetype(io.BytesIO(font_data), 32)
    picture = Image.new("RGB", (int(font.getlength(text)) + 16, 48), "white")
    ImageDraw.Draw(picture).text((8, 4), text, fill="black", font=font)
    return picture


def text_input(picture):
    """(x / 255 - 0.5) / 0.5, [1, 3, 48, W], RGB."""
    pixels = (np.asarray(picture).astype(np.float32) / 255 - 0.5) / 0.5
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def two_letters(font_data):
    """An A and a K on a 416 x 200 card; the rest up to 416 x 416 is grey 114, as the detector pads."""
    font = ImageFont.truetype(io.BytesIO(font_data), 60)
    card = Image.new("RGB", (416, 200), (240, 220, 200))
    draw = ImageDraw.Draw(card)
    draw.text((60, 40), "A", fill="black", font=font)
    draw.text((250, 110), "K", fill=(0, 0, 255), font=font)
    picture = Image.new("RGB", (416, 416), (114, 114, 114))
    picture.paste(card, (0, 0))
    return picture


def detector_input(picture):
    """0 to 255 as they are, [1, 3, 416, 416], BGR."""
    return np.ascontiguousarray(np.asarray(picture).astype(np.float32)[:, :, ::-1].transpose(2, 0, 1)[None])


def face_input(picture):
    """Bilinear to 128 x 128, x / 127.5 - 1, [1, 128, 128, 3], RGB."""
    picture = picture.resize((128, 128), Image.Resampling.BILINEAR)
    return np.asarray(picture).astype(np.float32)[None] / np.float32(127.5) - 1


def upscaler_input(picture):
    """0 to 255 as they are, [1, H, W, 3], RGB."""
    return np.asarray(picture).astype(np.float32)[None]
