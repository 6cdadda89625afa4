"""Video files to frames and back, through PyAV (the extra `video`), which only this room imports.

    reader -> `Frame`, `Frame`, ... (RGB with its time, and the packets of other streams) -> writer

What a file holds is kept or refused, or its loss is said: the time of each frame, size, pixel
aspect ratio, bits, chroma subsampling, greyness, colour tags, audio and subtitles packet by packet,
titles, languages and chapters. Frames are turned upright by the display matrix, as images are by
EXIF. Refused are transparency, interlaced video, and colours that are coded in no plain RGB or
YCbCr. Left out, with a warning: further video streams, data streams, and what only one container
knows. HDR metadata beyond the colour tags (mastering display, Dolby Vision) is not carried over.
"""

from maxim_deploy.imaging.video.names import check_video_output, is_video, result_suffix
from maxim_deploy.imaging.video.reading import Frame, VideoReader
from maxim_deploy.imaging.video.streams import KINDS
from maxim_deploy.imaging.video.writing import CODECS, VideoEncoding, VideoWriter

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
