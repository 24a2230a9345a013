"""A user's own images, named by their path."""

from pathlib import Path

from lop.data.cifar import CIFAR, read_cifar
from lop.data.image_folder import class_folders, read_image_folder
from lop.data.imagenet32 import in_memory
from lop.data.images import ImageData, image_data
from lop.data.mnist import complete_sets, read_split
from lop.data.npy import NPY_FILES, ClassFiles, class_files, read_npy_folder
from lop.utils.errors import UserError


def load_own_images(path: Path) -> ImageData:
    """The data set at a path: four IDX or four .npy files, class files, CIFAR python files, or an image folder."""
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: give the folder that holds the data set's files")
    name = path.resolve().name
    present = {entry.name for entry in path.iterdir()}
    if NPY_FILES[0] in present:
        return read_npy_folder(name, path)
    if (classes := find_class_files(path)) is not None:
        return in_memory(classes)
    for files in CIFAR.values():
        if all((path / file).is_file() for file in files.names):
            return read_cifar(name, path, files, verify=False)
    if idx := complete_sets([path]):
        train, test = read_split(idx[0][0], idx[0][1]), read_split(idx[0][2], idx[0][3])
        return image_data(name, train, test, str(path))
    if class_folders(path) or class_folders(path / "train"):
        return read_image_folder(name, path)
    raise UserError(
        f"{path} holds no images that are understood: needs CIFAR python files, four IDX files, "
        f"{', '.join(NPY_FILES)}, <class id>.npy files, or <class>/<image> files"
    )


def find_class_files(path: Path) -> ClassFiles | None:
    """The class files in a folder or in its subfolder `classes`, if it has any."""
    for folder in (path, path / "classes"):
        if (folder / "0.npy").is_file():
            return class_files(path.resolve().name, folder)
    return None
