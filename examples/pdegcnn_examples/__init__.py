"""What the examples of pdegcnn share: training, data sets, baselines and drawing. Not part of the library."""
