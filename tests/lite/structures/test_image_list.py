import pytest
import torch

from match_rcnn.lite.structures import ImageList

IMAGES = [torch.ones(3, 10, 20), torch.full((3, 15, 12), 2.0)]


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({}, (15, 20)),
        ({"size_divisibility": 32}, (32, 32)),
        ({"size_divisibility": 4}, (16, 20)),
        ({"size_divisibility": 1}, (15, 20)),
    ],
)
def test_batch_size(arguments, size):
    images = ImageList.from_tensors(IMAGES, **arguments)
    assert images.tensor.shape == (2, 3, *size)
    assert images.image_sizes == [(10, 20), (15, 12)]
    assert len(images) == 2


def test_padding_is_right_and_below():
    images = ImageList.from_tensors(IMAGES, pad_value=-1.0)
    assert (images[0] == 1).all()
    assert images[0].shape == (3, 10, 20)
    assert (images.tensor[0, :, 10:] == -1).all()
    assert (images.tensor[1, :, :, 12:] == -1).all()
    # Every pixel is an image's or padding.
    assert (images.tensor == -1).sum() == 3 * (2 * 15 * 20 - 10 * 20 - 15 * 12)


def test_the_images_are_not_touched():
    image = torch.ones(1, 4, 4)
    ImageList.from_tensors([image]).tensor.zero_()
    assert image.sum() == 16


def test_masks_without_channels():
    images = ImageList.from_tensors([torch.ones(2, 3, dtype=torch.long), torch.ones(4, 1).long()])
    assert images.tensor.shape == (2, 4, 3)
    assert images.tensor.dtype == torch.long
    assert images[1].shape == (4, 1)


def test_device_and_to():
    images = ImageList.from_tensors(IMAGES).to(torch.float64)
    assert images.tensor.dtype == torch.float64
    assert images.device.type == "cpu"


@pytest.mark.parametrize("images", [[], [torch.ones(3, 4, 4), torch.ones(1, 4, 4)]])
def test_images_that_make_no_batch(images):
    with pytest.raises(ValueError, match="differ only in height and width"):
        ImageList.from_tensors(images)
