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
/// A block computes panels [j] of an even partition, images_per_block images and rows_per_block
/// rows of a class. Blocks are counted by group, j, then images, then rows; of joined_blocks
/// neighbours of rows (or of images, where these are whole) first those of the first class, then
/// those of the next: so an even share of blocks has its share of each class, whose taps, and work,
/// differ. Neighbours of a class are computed as one. K is summed in chunks of taps_per_chunk taps,
/// as matmul does.
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

/// A kernel of 3x3 taps where it lies: tap (k, l) of row and column at
/// w[first + (3 * k + l) * tap + row * row_step + column * column_step]. The gradient by the input
/// reads the same memory with the taps backwards and rows and columns exchanged.
struct SmallKernel {
  const float* w;
  int64_t first, tap, row_step, column_step;
};

/// u = G w G^T for the matrix w of taps of each row and column (winograd.h), in panels: that of
/// vectors [v0, v1) starts at 16 * K * v0 * width and holds [16][K][(v1 - v0) * width], zero past
/// N. Block j * blocks_k + i does panels [j] and rows [i] of an even partition.
struct WinogradKernelArgs {
  SmallKernel kernel;
  float* packed;
  int64_t K, N;
  int64_t blocks_n, blocks_k;
  int32_t panel_vectors;
};

/// As ConvArgs, for kernels of 3x3 taps, steps of 1 and one group, with 16 products for 2x2 sums
/// instead of 36. c is cut into tiles of 2x2 positions, counted across, down and by images; the
/// last ones of odd sizes are cut off. Sums that are not finite are computed again, tap by tap from
/// `kernel`, so that infinities and NaN go where their windows take them and nowhere else.
///
/// Block j * tile_blocks + i computes panels [j] of an even partition and tiles_per_block tiles,
/// depth_chunk channels at a time, whose sums are added in order. Scratch holds the products of
/// product_columns columns: of a panel, or of all panels of a block where it takes several chunks.
struct WinogradArgs {
  ConvGeometry shape;
  SmallKernel kernel;
  const float* source;
  const float* packed;
  float* c;
  MatmulEpilogue epilogue;
  int64_t tiles_per_block, tile_blocks, blocks_n;
  int64_t depth_chunk, product_columns;
  int32_t panel_vectors;
};

/// sums[slice, f, d, o] = sum over the tiles of the slice of (B^T x B)[f] (A dy A^T)[f]: what
/// winograd_finish makes the gradient of.
///
/// Block (slice * blocks_n + j) * parts + i: channels [i * depth_part, ...), panels [j] and the
/// tiles [slice] of an even partition, tiles_per_chunk at a time.
struct WinogradGradArgs {
  ConvGeometry shape;
  const float* source;
  const float* dy;
  float* sums;
  int64_t slices, parts, blocks_n;
  int64_t depth_part, tiles_per_chunk;
  int32_t panel_vectors;
};

/// dw[k, l, d, o] = (G^T (sum over slices of sums[slice, :, d, o]) G)[k, l], and tap by tap where
/// that is not finite. Block i of an even partition of the channels d.
struct WinogradFinishArgs {
  ConvGeometry shape;
  const float* source;
  const float* dy;
  const float* sums;
  float* dw;
  int64_t slices, blocks;
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
