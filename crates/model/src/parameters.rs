//! Visits the parameters of a network with their paths.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// A visitor of parameters.
pub trait OnParameter {
    /// Visits a parameter; `path` joins the names of the fields down to it with dots.
    fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>);
}

/// Calls `on` with every floating-point parameter of `module`, running statistics included, in the order
/// of its fields.
pub fn for_each_parameter<M: Module>(module: &M, on: &mut impl OnParameter) {
    module.visit(&mut Walk { path: Vec::new(), on });
}

/// Whether this is the path of a batch norm's running statistic, which the optimiser does not train.
pub fn is_running_statistic(path: &str) -> bool {
    path.rsplit('.').next().is_some_and(|name| name.starts_with("running_"))
}

struct Walk<'a, O> {
    path: Vec<String>,
    on: &'a mut O,
}

impl<O: OnParameter> ModuleVisitor for Walk<'_, O> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.on.parameter(&self.path.join("."), param);
    }
}
