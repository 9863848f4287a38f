"""TIFF: pages, the axes they make up, and what they state of voxels; one file or an OME set of several."""

from segem.io.readers.tiff.reader import TiffReader, list_tiff_files, open_ome_set

__all__ = ["TiffReader", "list_tiff_files", "open_ome_set"]
