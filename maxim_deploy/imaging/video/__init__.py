"""Video files to frames and back, through PyAV (the extra `video`). Only this room imports PyAV.

    reader -> `Frame`, `Frame`, ... (RGB with its time, and the packets of other streams) -> writer

A file's contents are kept, or a warning names them, or the file is refused; see `inventory`. The
display matrix turns frames upright, as EXIF does for images. The muxer decides what streams a
container accepts. Reading the result shows what it lacks.
"""

from maxim_deploy.imaging.video.encoding import CODECS, VideoEncoding
from maxim_deploy.imaging.video.names import check_video_output, is_video, result_suffix
from maxim_deploy.imaging.video.reading import Frame, VideoReader
from maxim_deploy.imaging.video.streams import KINDS
from maxim_deploy.imaging.video.writing import VideoWriter

__all__ = [
    "CODECS",
    "KINDS",
    "Frame",
    "VideoEncoding",
    "VideoReader",
    "VideoWriter",
    "check_video_output",
    "is_video",
    "result_suffix",
]
