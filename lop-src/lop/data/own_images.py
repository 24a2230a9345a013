"""A user's own images, named by their path."""

from dataclasses import replace
from pathlib import Path

from lop.data.image_folder import class_folders, read_image_folder
from lop.data.imagenet32 import in_memory
from lop.data.images import ImageData, as_split, image_data
from lop.data.npy import NPY_FILES, ClassFiles, class_files, read_npy_folder
from lop.data.record import DATASETS, Found
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
        train, test = (as_split(*split, Path(classes.source)) for split in in_memory(classes).values())
        return image_data(name, train, test, classes.source)
    for record in DATASETS.values():
        own = replace(record, common_names=False)  # the user says that it is a data set
        folder = own.find_in(own, [path]) if record.own_files else None
        if folder == path or (folder is not None and not record.common_names):
            return record.read(Found(record, folder, verify=False), name)
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
