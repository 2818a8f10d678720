"""The window: xT for whole-slide images in napari. Qt and napari live here, nowhere else."""
