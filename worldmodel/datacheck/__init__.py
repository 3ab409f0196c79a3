"""What is wrong with a data set, before hours are spent on it: `worldmodel data check`.

Files are read in blocks of frames, so memory does not grow with their length; what stays of a frame
are a few numbers. Letters: n frames, h w rows, columns, k buttons.
"""
