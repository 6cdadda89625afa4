"""Video files to frames and back, through PyAV (the extra `video`), which only this room imports.

    reader -> `Frame`, `Frame`, ... (RGB with its time, and the packets of other streams) -> writer

What a file carries is kept, or a warning names it, or the file is refused: `inventory` lists all
of it. Frames are turned upright by the display matrix, as images are by EXIF. Which streams a
container takes is asked of its muxer, and what a result lacks is found by reading it.
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
