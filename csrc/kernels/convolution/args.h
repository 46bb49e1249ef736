// Arguments of convolutions over images with channels last. Plain aggregates: sizes and strides
// count elements. Filled by core/lower/convolution.
#pragma once

#include <cstdint>

#include "kernels/matmul/args.h"

namespace handmill {

/// One spatial axis. A window at target position t covers the source positions
///   t * stride + k * dilation - before,  k in [0, kernel);
/// transposed, source and target change places: a target position t meets the source position s at
/// the tap k for which s * stride + k * dilation - before == t.
struct ConvAxis {
  int64_t source, target;
  int64_t kernel, stride, dilation, before;
};

/// What convolution and the gradient of its kernel share. Images of one row stand for lines.
struct ConvGeometry {
  ConvAxis axis[2];  // down, across
  int64_t images;
  int64_t source_channels, target_channels;  // of all groups
  int64_t depth, columns;                    // of the source and of the target, in one group
  int64_t groups;
  int64_t classes[2];  // of target positions, down and across: see ConvArgs
  bool copies;  // windows reach beyond the source: a block copies its part of it, with zeros around
};

/// c[n, t, :] = epilogue(sum over taps and channels of source[n, window(t, tap), :] w[tap]), a
/// product of matrices whose left one is never made: rows are target positions, K the taps in their
/// order and the channels of each. packed: per group, panels of w as MatmulPackArgs makes them.
///
/// Transposed, the target positions of one remainder modulo the strides form a class: they meet the
/// same taps, and are rows of one product. There are as many as there are positions, at most.
///
/// Block (((group * blocks_n + j) * classes + class) * image_blocks + i) * row_blocks + r computes
/// panels [j] of an even partition, images_per_block images and rows_per_block rows of the class.
/// Up to joined_blocks neighbours of rows (or of images, where these are whole) are computed as
/// one. K is summed in chunks of taps_per_chunk taps, as matmul does.
struct ConvArgs {
  ConvGeometry shape;
  const float* source;
  const float* packed;
  float* c;
  MatmulEpilogue epilogue;
  int64_t packed_group;  // from the panels of one group to the next
  int64_t images_per_block, rows_per_block, image_blocks, row_blocks, blocks_n;
  int64_t joined_blocks;
  int64_t taps_per_chunk;
  int64_t source_scratch;  // bytes of scratch before its tables: the copy of the source
  int32_t panel_vectors;
  bool transposed;
  bool joins_taps;  // the taps of a kernel row are one run of the source
};

/// c[tap, d, o] = sum over images and positions of source[n, window(t, tap), d] dy[n, t, o]: a
/// product of matrices whose rows are taps and channels, and K the target positions. With slices >
/// 1, slice s writes its sums to c + s * (rows * target_channels), which matmul_combine adds.
///
/// Block ((group * slices + slice) * blocks_n + j) * parts + i: channels [i * depth_part, ...) of
/// the group under all taps, panels [j], and the chunks [slice] of an even partition; a chunk is
/// rows_per_chunk rows of one image, or images_per_chunk whole images. Each reads, and copies, its
/// own channels of the source alone.
struct ConvKernelGradArgs {
  ConvGeometry shape;
  const float* source;
  const float* dy;
  float* c;
  int64_t slices, parts, blocks_n;
  int64_t depth_part;
  int64_t images_per_chunk, rows_per_chunk;
  int64_t source_scratch;
  int64_t copied_pixel;  // from one position to the next of the copy
  int32_t panel_vectors;
};

/// c[n, t, d] = epilogue(sum over taps of source[n, window(t, tap), d] w[tap, d]): one filter a
/// channel, groups == source_channels == target_channels. Block n * row_blocks + r computes
/// rows_per_block target rows of an image, of all classes.
struct DepthwiseArgs {
  ConvGeometry shape;
  const float* source;
  const float* w;
  float* c;
  MatmulEpilogue epilogue;
  int64_t rows_per_block, row_blocks;
  bool transposed;
};

/// c[tap, d] = sum over images and positions of source[n, window(t, tap), d] dy[n, t, d]. Slice s
/// of an even partition of all rows of dy writes to c + s * (taps * channels); block
/// slice * parts + part computes one of `parts` parts of the channels.
struct DepthwiseGradArgs {
  ConvGeometry shape;
  const float* source;
  const float* dy;
  float* c;
  int64_t slices, parts;
};

}  // namespace handmill
