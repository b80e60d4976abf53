//! Convolutions, pools and padding.

use assay_graph::Window;

use super::{Lower, Sym, Val};
use crate::{error::ImportError, net::NetOp, onnx::attributes::NodeView};

const IMAGE: [usize; 3] = [2, 3, 1];

struct Geometry {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Top, left, bottom, right.
    pad: [usize; 4],
    out: [usize; 2],
}

impl Lower<'_> {
    pub(super) fn conv(&mut self, node: &NodeView<'_>) -> Result<Val, ImportError> {
        let (x, pending) = match self.sym(node, 0)? {
            Sym::Padded(v, pad) => (v, pad),
            _ => (self.operand(node, 0)?, [0; 4]),
        };
        let w = self.weights(node, 1)?;
        let one_dimensional = x.dims.len() == 3;
        let x = self.as_image(node, &x)?;
        let (n, fan, kernel) = match *w.dims.as_slice() {
            [n, c, kh, kw] if !one_dimensional => (n, c, [kh, kw]),
            [n, c, k] if one_dimensional => (n, c, [1, k]),
            _ => {
                return Err(node.unsupported(format!(
                    "weights of {:?} for an input of {:?}",
                    w.dims, x.dims
                )));
            }
        };
        let groups = usize::try_from(node.int("group", 1)).unwrap_or(0);
        let c = x.dims.get(1).copied().unwrap_or(0);
        if groups == 0 || n == 0 || fan * groups != c || n % groups != 0 {
            return Err(node.malformed(format!(
                "{groups} groups of {fan} channels, {n} outputs, input of {c} channels"
            )));
        }
        let geometry = self.geometry(node, &x, kernel, pending, one_dimensional)?;
        let bias = if node.input(2).is_some() {
            self.weights(node, 2)?.to_f32()
        } else {
            vec![0.0; n]
        };
        if bias.len() != n {
            return Err(node.malformed(format!("{} biases for {n} channels", bias.len())));
        }
        let (weight, kernel) = spread_kernel(node, &w.to_f32(), n, fan, &geometry)?;
        let window = self.window(node, kernel, &geometry)?;
        let input = self.stored(&x, &IMAGE)?;
        let [oh, ow] = geometry.out;
        let y = self.make(
            node,
            NetOp::Conv {
                weight,
                bias,
                window,
                groups,
            },
            vec![input],
            vec![1, n, oh, ow],
            IMAGE.to_vec(),
        )?;
        if one_dimensional {
            self.reshaped(node, &y, vec![1, n, ow])
        } else {
            Ok(y)
        }
    }

    pub(super) fn pool(&mut self, node: &NodeView<'_>, max: bool) -> Result<Val, ImportError> {
        let x = self.operand(node, 0)?;
        let one_dimensional = x.dims.len() == 3;
        let x = self.as_image(node, &x)?;
        let shape = node
            .sizes("kernel_shape")?
            .ok_or_else(|| node.malformed("no kernel_shape"))?;
        let kernel = match (shape.as_slice(), one_dimensional) {
            ([h, w], false) => [*h, *w],
            ([k], true) => [1, *k],
            _ => return Err(node.unsupported(format!("kernel of {shape:?}"))),
        };
        let geometry = self.geometry(node, &x, kernel, [0; 4], one_dimensional)?;
        if geometry.dilation != [1, 1] {
            return Err(node.unsupported("dilation"));
        }
        let window = self.window(node, kernel, &geometry)?;
        let input = self.stored(&x, &IMAGE)?;
        let c = x.dims.get(1).copied().unwrap_or(1);
        let count_padding = !max && node.int("count_include_pad", 0) == 1 && geometry.pad != [0; 4];
        let op = match (max, count_padding) {
            (true, _) => NetOp::MaxPool(window),
            (false, false) => NetOp::AvgPool(window),
            // zeros outside the image count: a depth-wise convolution with equal weights
            (false, true) => {
                let cells = kernel.iter().product::<usize>();
                NetOp::Conv {
                    weight: vec![1.0 / cells as f32; c * cells],
                    bias: vec![0.0; c],
                    window,
                    groups: c,
                }
            }
        };
        let [oh, ow] = geometry.out;
        let y = self.make(node, op, vec![input], vec![1, c, oh, ow], IMAGE.to_vec())?;
        if one_dimensional {
            self.reshaped(node, &y, vec![1, c, ow])
        } else {
            Ok(y)
        }
    }

    /// `Pad` with zeros around height and width: the next convolution takes it over.
    pub(super) fn pad(&mut self, node: &NodeView<'_>) -> Result<Sym, ImportError> {
        let x = self.operand(node, 0)?;
        let pads = match self.constant(node, 1) {
            Some(c) => c.to_i64(),
            None => node
                .ints("pads")
                .map(<[i64]>::to_vec)
                .ok_or_else(|| node.unsupported("pads are not constant"))?,
        };
        if pads.iter().all(|p| *p == 0) {
            return Ok(Sym::Val(x));
        }
        let value = self
            .constant(node, 2)
            .and_then(|c| c.scalar())
            .unwrap_or_else(|| node.float("value", 0.0));
        if node.text("mode", "constant") != "constant" || value != 0.0 || node.input(3).is_some() {
            return Err(node.unsupported("only zeros around an image"));
        }
        match (pads.as_slice(), x.dims.len()) {
            (&[0, 0, top, left, 0, 0, bottom, right], 4)
                if [top, left, bottom, right]
                    .iter()
                    .all(|p| (0..255).contains(p)) =>
            {
                Ok(Sym::Padded(
                    x,
                    [top as usize, left as usize, bottom as usize, right as usize],
                ))
            }
            _ => Err(node.unsupported(format!("pads {pads:?}"))),
        }
    }

    /// `[1, c, h, w]`; `[1, c, l]` becomes an image of one line.
    fn as_image(&mut self, node: &NodeView<'_>, x: &Val) -> Result<Val, ImportError> {
        match *x.dims.as_slice() {
            [1, _, _, _] => Ok(x.clone()),
            [1, c, l] => self.reshaped(node, x, vec![1, c, 1, l]),
            _ => Err(node.unsupported(format!(
                "input of {:?}, [1, channels, height, width] wanted",
                x.dims
            ))),
        }
    }

    fn geometry(
        &self,
        node: &NodeView<'_>,
        x: &Val,
        kernel: [usize; 2],
        pending: [usize; 4],
        one_dimensional: bool,
    ) -> Result<Geometry, ImportError> {
        let pair = |name: &str| -> Result<[usize; 2], ImportError> {
            Ok(match (node.sizes(name)?.as_deref(), one_dimensional) {
                (None, _) => [1, 1],
                (Some([h, w]), false) => [*h, *w],
                (Some([w]), true) => [1, *w],
                (Some(other), _) => return Err(node.malformed(format!("{name} {other:?}"))),
            })
        };
        let (stride, dilation) = (pair("strides")?, pair("dilations")?);
        let &[_, _, h, w] = x.dims.as_slice() else {
            return Err(node.malformed("not an image"));
        };
        if kernel.contains(&0) || stride.contains(&0) || dilation.contains(&0) {
            return Err(node.malformed("kernel, stride and dilation must be at least 1"));
        }
        if kernel
            .iter()
            .chain(&stride)
            .chain(&dilation)
            .any(|v| *v > 255)
        {
            return Err(node.unsupported(format!(
                "kernel {kernel:?}, stride {stride:?} or dilation {dilation:?} above 255"
            )));
        }
        let size = [h, w];
        let span: [usize; 2] = std::array::from_fn(|i| (kernel[i] - 1) * dilation[i] + 1);
        let mut pad = match (node.sizes("pads")?.as_deref(), one_dimensional) {
            (None, _) => [0; 4],
            (Some([t, l, b, r]), false) => [*t, *l, *b, *r],
            (Some([l, r]), true) => [0, *l, 0, *r],
            (Some(other), _) => return Err(node.malformed(format!("pads {other:?}"))),
        };
        let auto = node.text("auto_pad", "NOTSET");
        if let "SAME_UPPER" | "SAME_LOWER" = auto {
            for i in 0..2 {
                let out = size[i].div_ceil(stride[i]);
                let total = ((out - 1) * stride[i] + span[i]).saturating_sub(size[i]);
                let small = total / 2;
                (pad[i], pad[i + 2]) = if auto == "SAME_UPPER" {
                    (small, total - small)
                } else {
                    (total - small, small)
                };
            }
        }
        for (p, more) in pad.iter_mut().zip(pending) {
            *p += more;
        }
        let mut out = [0; 2];
        for i in 0..2 {
            let padded = size[i] + pad[i] + pad[i + 2];
            let room = padded.checked_sub(span[i]).ok_or_else(|| {
                node.malformed(format!("kernel of {} in {padded} cells", span[i]))
            })?;
            out[i] = room / stride[i] + 1;
            if node.int("ceil_mode", 0) == 1
                && room % stride[i] != 0
                && out[i] * stride[i] < size[i] + pad[i]
            {
                // the last window starts inside and reaches beyond
                pad[i + 2] += stride[i] - room % stride[i];
                out[i] += 1;
            }
        }
        Ok(Geometry {
            kernel,
            stride,
            dilation,
            pad,
            out,
        })
    }

    fn window(
        &self,
        node: &NodeView<'_>,
        kernel: [usize; 2],
        g: &Geometry,
    ) -> Result<Window, ImportError> {
        let small = |v: usize| {
            u8::try_from(v).map_err(|_| {
                node.unsupported(format!("kernel, stride or padding of {v}, at most 255"))
            })
        };
        Ok(Window {
            kernel: [small(kernel[0])?, small(kernel[1])?],
            stride: [small(g.stride[0])?, small(g.stride[1])?],
            pad: [
                small(g.pad[0])?,
                small(g.pad[1])?,
                small(g.pad[2])?,
                small(g.pad[3])?,
            ],
        })
    }
}

/// `[n][c][kh][kw]` → `[n][kh][kw][c]`, dilated kernels filled with zeros.
fn spread_kernel(
    node: &NodeView<'_>,
    w: &[f32],
    n: usize,
    c: usize,
    g: &Geometry,
) -> Result<(Vec<f32>, [usize; 2]), ImportError> {
    let [kh, kw] = g.kernel;
    let [dh, dw] = g.dilation;
    let full = [(kh - 1) * dh + 1, (kw - 1) * dw + 1];
    ImportError::check(
        &format!("weights of `{}`", node.name()),
        (n * c) as u64 * (full[0] * full[1]) as u64,
        1 << 26,
    )?;
    let mut out = vec![0f32; n * c * full[0] * full[1]];
    for (i, value) in w.iter().enumerate() {
        let (x, rest) = (i % kw, i / kw);
        let (y, rest) = (rest % kh, rest / kh);
        let (channel, row) = (rest % c, rest / c);
        if let Some(slot) = out.get_mut(((row * full[0] + y * dh) * full[1] + x * dw) * c + channel)
        {
            *slot = *value;
        }
    }
    Ok((out, full))
}
